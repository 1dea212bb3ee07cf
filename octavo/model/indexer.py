"""The lightning indexer of CSA layers: which entries a query attends to, and the loss that teaches it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from octavo.cache.view import Controls, Group, Picks
from octavo.config.model import CSA_RATIO, ModelConfig
from octavo.kernels.dispatch import fusable
from octavo.kernels.hadamard import hadamard
from octavo.kernels.index_topk import gathered_scores, index_scores, select_topk
from octavo.kernels.quant import simulate_fp4
from octavo.kernels.rope import rotate
from octavo.kernels.rows import Rows
from octavo.kernels.selection import Causal, Marked, Masked, Picked, Selection
from octavo.model.compressor import Compressor
from octavo.model.linear import Linear
from octavo.model.rotary import Table


class IndexLoss(NamedTuple):
    """Sums over queries: divergence, and the number of queries that had a teacher."""

    divergence: Tensor
    queries: Tensor


class Queries(NamedTuple):
    """Index queries [T, I, J] and head weights [T, I]."""

    q: Tensor
    w: Tensor


class Indexer(nn.Module):
    """Scores I(t, w) = sum_h g_h relu(q_h . k_w) with its own small compressor (report, CSA section).

    Its inputs are detached: only the index loss trains it, and the index loss trains nothing else.
    """

    def __init__(self, config: ModelConfig, *, layer: int) -> None:
        super().__init__()
        self.heads, self.width, self.topk = config.index_n_heads, config.index_head_dim, config.index_topk
        self.levels = config.levels
        self.wq_b = Linear(config.q_lora_rank, self.heads * self.width, simulate=config.quant_sim)
        self.weights_proj = Linear(config.hidden_size, self.heads)
        self.compressor = Compressor(config, layer=layer, kind="index", width=self.width)
        self.simulate = config.quant_sim

    def queries(self, x: Tensor, latent: Tensor, table: Table) -> Queries:
        """x [T, D], latent [T, q_lora] -> index queries and head weights."""
        cos, sin = table
        q = self.wq_b(latent.detach()).view(-1, self.heads, self.width)
        q = hadamard(rotate(q, cos.unsqueeze(1), sin.unsqueeze(1)))
        if self.simulate:
            q = simulate_fp4(q)
        return Queries(q, self.weights_proj(x.detach()) * (self.width * self.heads) ** -0.5)

    def select(self, queries: Queries, keys: Rows, group: Group, controls: Controls) -> Selection:
        """Entries for the group's queries (shapes [B, S, ...]); all visible ones where they are no more than the top-k.
        """
        k = self.topk if controls.index_topk is None else controls.index_topk
        bounds = None if group.documents is None else group.documents.entries(CSA_RATIO).bounds
        if controls.picks is Picks.ALL or (group.first + group.length) // CSA_RATIO <= k:
            return Causal(CSA_RATIO, bounds=bounds)
        if controls.picks is Picks.RANDOM:
            return Picked(random_picks(group, k, device=queries.q.device))
        rules = {"first": group.first, "ratio": CSA_RATIO, "k": k, "levels": self.levels}
        return select_topk(queries.q, queries.w, keys, **rules, bounds=bounds)

    def loss(
        self, queries: Queries, keys: Rows, selection: Selection, mass: Tensor, group: Group, every: int = 1
    ) -> IndexLoss:
        """Divergence of the indexer's softmax from the attention mass over the selected entries.

        The teacher is the joint softmax over window, entries and sink, summed over heads, then normalised once;
        queries whose entries got no mass are left out. Of the group's queries only every `every`-th is taught; `mass`
        [B, S // every, n] is theirs.
        """
        some = slice(every - 1, None, every)
        q, w = queries.q[:, some], queries.w[:, some]
        if isinstance(selection, Picked):
            index = selection.index[:, some]
            return divergence(gathered_scores(q, w, keys.gather(index.clamp_min(0))), mass, index >= 0)
        scores = index_scores(q, w, keys.tile(0, keys.length))
        if isinstance(selection, Masked | Marked):
            return divergence(scores, mass, selection.of(some))
        if selection.bounds is not None:
            return divergence(scores, mass, selection.bounds.of(some).marks(keys.length))
        token = torch.arange(group.first + every, group.first + group.length + 1, every, device=scores.device)
        seen = torch.arange(keys.length, device=scores.device) < (token // selection.ratio).view(1, -1, 1)
        return divergence(scores, mass, seen)


@fusable
def _divergence(scores: Tensor, mass: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
    total = mass.sum(-1)
    taught = total > 1e-6
    teacher = mass / total.clamp_min(1e-6).unsqueeze(-1)
    scores = scores.masked_fill(~seen, torch.finfo(scores.dtype).min)
    log_student = scores - scores.logsumexp(-1, keepdim=True)
    terms = teacher * (teacher.clamp_min(1e-30).log() - log_student.masked_fill(~seen, 0))
    return (terms.sum(-1) * taught).sum(), taught.sum()


def divergence(scores: Tensor, mass: Tensor, seen: Tensor) -> IndexLoss:
    """Sum over queries of KL(mass / sum(mass) || softmax(scores over seen)); all [B, S, n]."""
    return IndexLoss(*_divergence(scores, mass, seen))


def random_picks(group: Group, k: int, device: torch.device) -> Tensor:
    """k distinct-or-dropped random visible entries a query, [B, S, k]; the control that shows what the indexer is
    worth."""
    generator = torch.Generator().manual_seed(group.first)
    token = torch.arange(group.first + 1, group.first + group.length + 1)
    visible, first = (token // CSA_RATIO).view(1, -1, 1), 0
    if group.documents is not None:
        bounds = group.documents.entries(CSA_RATIO).bounds
        first = bounds.first.cpu().unsqueeze(-1).long()
        visible = bounds.stop.cpu().unsqueeze(-1).long() - first
    draw = torch.rand(group.rows, group.length, k, generator=generator)
    picks = first + (draw * visible).long().sort(-1).values
    picks = picks.masked_fill(
        torch.cat((torch.zeros_like(picks[..., :1]).bool(), picks[..., 1:] == picks[..., :-1]), -1), -1
    )
    return picks.masked_fill(visible == 0, -1).to(device)
