"""The model's parts of one rank, and how they make the whole with the others'.

Covers: `SpreadTransformer`, built on the meta device with this rank's parts alone. Does not cover: who has which part
(`shares`), exchanges (`team`), loading (`octavo.model.checkpoint`).

All ranks run the same step of the same tokens, so streams, cache and routing are the same everywhere, and each adds
what its heads and its experts make of them. Compiled steps of whole blocks do not run: between its heads and the
streams, and between its experts and the streams, a rank needs the others. Loops of single operations do run.
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from octavo.cache.view import Controls, Group, Picks, View
from octavo.config.model import CSA_RATIO, ModelConfig
from octavo.engine.spread.shares import check_ranks, cut_of, part
from octavo.engine.spread.team import Team
from octavo.kernels.engram_lookup import gather
from octavo.kernels.experts import experts
from octavo.kernels.experts.ref import Rounding
from octavo.kernels.projections import Inputs
from octavo.kernels.route import Routing
from octavo.kernels.rows import Rows
from octavo.kernels.selection import Picked, Selection
from octavo.model.attention import Attention, AttentionOutput
from octavo.model.block import Block
from octavo.model.checkpoint.cut import Cut
from octavo.model.embed import Embedding
from octavo.model.engram import Engram
from octavo.model.indexer import Indexer, Queries
from octavo.model.moe import Experts, MoE
from octavo.model.rotary import Rotary, Table
from octavo.model.transformer import Transformer

_FEW_QUERIES = 16  # of a rank, from which on each looks for the picks of its part of the queries


class SpreadTransformer(Transformer):
    """`Transformer` of which this process has the share of `team.rank`; `cuts` are the parts by parameter name."""

    def __init__(self, config: ModelConfig, team: Team) -> None:
        """`config` without draft stages. Raises UsageError where it cannot be divided among the ranks."""
        check_ranks(config, team.count)
        super().__init__(config)
        self.team = team
        self.cuts: dict[str, Cut] = {}
        if team.count == 1:
            return
        for name, parameter in list(self.named_parameters()):
            cut = cut_of(name, tuple(parameter.shape), config, team.rank, team.count)
            if cut is not None:
                self.cuts[name] = cut
                self._keep(name, cut)
        if config.tie_word_embeddings:
            self.head.weight = self.embed.weight
            self.head.__dict__["stored"] = vars(self.embed)["stored"]
        self.embed = SpreadEmbedding(self.embed, team)
        for block in self.layers:
            assert isinstance(block, Block)
            block.attn, block.ffn = SpreadAttention(block.attn, team), SpreadMoE(block.ffn, team)
            if block.has_engram:
                block.engram = SpreadEngram(block.engram, team)

    def _keep(self, name: str, cut: Cut) -> None:
        """A smaller parameter in the place of a whole one, and a note for `octavo.model.offload.stored_tensors`."""
        holder, _, leaf = name.rpartition(".")
        module = self.get_submodule(holder)
        old = module._parameters[leaf]
        assert old is not None
        fresh = torch.empty(cut.kept, device="meta", dtype=old.dtype)
        module._parameters[leaf] = nn.Parameter(fresh, requires_grad=old.requires_grad)
        module.__dict__.setdefault("stored", {})[leaf] = Divided(module, leaf, cut, self.team)

    def logits(self, streams: Tensor) -> Tensor:
        """As `Transformer.logits`."""
        V, count = self.config.vocab_size, self.team.count
        own = super().logits(streams)
        most = -(-V // count)
        every = self.team.gather(F.pad(own, (0, most - own.shape[1])), dim=1)
        parts = [every[:, r * most : r * most + len(part(V, r, count))] for r in range(count)]
        return torch.cat(parts, dim=1)


class Divided:
    """A tensor of which ranks have parts, as far as a fingerprint looks at it. Collective."""

    def __init__(self, holder: nn.Module, leaf: str, cut: Cut, team: Team) -> None:
        self._holder, self._leaf, self._cut, self._team = holder, leaf, cut, team

    @property
    def shape(self) -> torch.Size:
        """Of the whole."""
        return torch.Size(self._cut.shape)

    @property
    def dtype(self) -> torch.dtype:
        """Of the values."""
        return self._values.dtype

    @property
    def _values(self) -> Tensor:
        return cast(Tensor, getattr(self._holder, self._leaf))

    def sample(self, step: int) -> Tensor:
        """Every `step`-th value of the whole flattened tensor, on the CPU."""
        values = self._values.detach().reshape(-1)
        at = torch.arange(0, self.shape.numel(), step, device=values.device)
        here, places = self._cut.find(at)
        given = torch.where(here, values[places], 0)
        every = self._team.gather(given.unsqueeze(0), dim=0)
        has = self._team.gather(here.to(torch.uint8).unsqueeze(0), dim=0)
        return every.gather(0, has.argmax(0, keepdim=True)).squeeze(0).cpu()  # the first rank that has it


class SpreadEmbedding(Embedding):
    """Rows of a table that ranks have by id."""

    def __init__(self, given: Embedding, team: Team) -> None:
        _over(self, given)
        self._team, self._cut = team, _cut_of(given, "weight")

    def forward(self, tokens: Tensor) -> Tensor:
        """As `Embedding.forward`."""
        here, local = _own_ids(self, self._cut, tokens)
        return self._team.add(torch.where(here, F.embedding(local, self.weight), 0))


class SpreadEngram(Engram):
    """`Engram` whose table's rows ranks have by address."""

    def __init__(self, given: Engram, team: Team) -> None:
        _over(self, given)
        self._team, self._rows = team, _cut_of(given.table, "weight")

    def recalled(self, tokens: Tensor, view: View, compressed: Tensor) -> Tensor:
        """As `Engram.recalled`."""
        ids = self.addresses(tokens, view, compressed)
        here, local = _own_ids(self.table, self._rows, ids)
        found = gather(self.table.weight, local).view(*ids.shape, -1)
        return self._team.add(torch.where(here, found, 0).flatten(-2))

    def ahead(self, tokens: Tensor, view: View, compressed: Tensor, dtype: torch.dtype) -> None:
        """Nothing: ranks exchange in the order of the layers."""


class SpreadAttention(Attention):
    """`Attention` with this rank's heads and its part of the output."""

    def __init__(self, given: Attention, team: Team) -> None:
        _over(self, given)
        self._team, self._pack_in, self._pack_out = team, None, None
        self.heads, self.groups = given.heads // team.count, max(1, given.groups // team.count)
        if hasattr(given, "indexer"):
            self.indexer = SpreadIndexer(given.indexer, team)

    def attend(
        self, made: Inputs, view: View, rotary: Rotary, dtype: torch.dtype, *, placed: bool = False
    ) -> AttentionOutput:
        """As `Attention.attend`: `out` are this rank's heads, mass is that of all."""
        found = super().attend(made, view, rotary, dtype, placed=placed)
        masses = tuple([mass._replace(values=self._team.add(mass.values)) for mass in found.mass])
        return found._replace(mass=masses)

    def _project_out(self, o: Tensor, table: Table) -> Tensor:
        return self._team.add(super()._project_out(o, table))


class SpreadIndexer(Indexer):
    """`Indexer` whose queries ranks make by head and whose picks they look for by query; all then have all."""

    def __init__(self, given: Indexer, team: Team) -> None:
        _over(self, given)
        self._team, self._divided = team, "stored" in vars(given.wq_b)

    def queries(self, x: Tensor, latent: Tensor, table: Table) -> Queries:
        """As `Indexer.queries`."""
        if not self._divided:
            return super().queries(x, latent, table)
        heads, count = self.heads, self._team.count
        self.__dict__["heads"] = heads // count
        try:
            own = super().queries(x, latent, table)
        finally:
            self.__dict__["heads"] = heads
        both = self._team.gather(torch.cat((own.q, own.w.unsqueeze(-1)), dim=-1), dim=1)
        # the factor is that of all heads
        return Queries(both[..., :-1].contiguous(), (both[..., -1] * count**-0.5).contiguous())

    def select(self, queries: Queries, keys: Rows, group: Group, controls: Controls) -> Selection:
        """As `Indexer.select`."""
        count, rank, S = self._team.count, self._team.rank, group.length
        k = self.topk if controls.index_topk is None else controls.index_topk
        chosen = controls.picks is Picks.INDEX and (group.first + S) // CSA_RATIO > k
        chosen = chosen and self.levels is None  # two levels look at the step as a whole
        if not chosen or group.documents is not None or count * _FEW_QUERIES > S:
            return super().select(queries, keys, group, controls)
        each = -(-S // count)
        start = min(rank * each, S - each)  # the last part begins earlier, so that all are as long
        own = Queries(queries.q[:, start : start + each], queries.w[:, start : start + each])
        raised = _part_of(group, start, each)
        found = super().select(own, keys, raised, controls)
        index = found.index if isinstance(found, Picked) else _all_visible(raised, k, queries.q.device)
        every = self._team.gather(index.int(), dim=1).long()
        parts = [every[:, r * each + r * each - min(r * each, S - each) : (r + 1) * each] for r in range(count)]
        return Picked(torch.cat(parts, dim=1))


class SpreadExperts(Experts):
    """The experts of this rank, numbers `first` on."""

    def __init__(self, given: Experts) -> None:
        _over(self, given)
        self.first = _cut_of(given, "w1").first_row

    def forward(self, x: Tensor, routing: Routing, *, limit: float | None, round_hidden: Rounding) -> Tensor:
        """As `Experts.forward`, but of each token's experts those of this rank, in the order of its choices."""
        local = routing.experts - self.first
        here = (local >= 0) & (local < len(self.w1))
        choice, token = here.t().nonzero(as_tuple=True)
        made = experts(
            x[token], self.w1, self.w3, self.w2, chosen=local[token, choice].unsqueeze(1),
            weights=routing.weights[token, choice].unsqueeze(1), limit=limit, round_hidden=round_hidden,
        )  # fmt: skip
        out, at = made.new_zeros(x.shape), 0
        for count in here.sum(0).tolist():
            out.index_add_(0, token[at : at + count], made[at : at + count])  # no token twice: one order of sums
            at += count
        return out


class SpreadMoE(MoE):
    """`MoE` of which this rank has some routed experts and a part of the shared one's width."""

    def __init__(self, given: MoE, team: Team) -> None:
        _over(self, given)
        self._team, self._pack = team, None
        self.experts = SpreadExperts(given.experts)

    def _routed(self, x: Tensor, routing: Routing) -> Tensor:
        return self._team.add(super()._routed(x, routing))


def _over(made: nn.Module, given: nn.Module) -> None:
    """Let `made` have the parts of `given`."""
    nn.Module.__init__(made)
    made.__dict__.update(given.__dict__)
    made._modules = dict(given._modules)


def _cut_of(module: nn.Module, leaf: str) -> Cut:
    stored: dict[str, Any] = vars(module)["stored"]
    return cast(Divided, stored[leaf])._cut


def _own_ids(table: Embedding, cut: Cut, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Which of `ids` are rows of this rank, with a dimension more, and where they lie here, 0 for others."""
    local = ids - cut.first_row
    here = (local >= 0) & (local < len(table.weight))
    return here.unsqueeze(-1), torch.where(here, local, 0)


def _part_of(group: Group, start: int, length: int) -> Group:
    """The tokens start .. start + length - 1 of each sequence of a group."""
    return Group(start=group.start, rows=group.rows, length=length, first=group.first + start, past=group.past)


def _all_visible(group: Group, k: int, device: torch.device) -> Tensor:
    """Picks [B, S, k] of queries that see no more than k entries: all of these, -1 behind them."""
    token = torch.arange(group.first + 1, group.first + group.length + 1, device=device)
    entry = torch.arange(k, device=device)
    seen = entry < (token // CSA_RATIO).unsqueeze(-1)
    return torch.where(seen, entry, -1).expand(group.rows, -1, -1)
