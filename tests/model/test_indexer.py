"""The indexer: queries, choice of entries, random control, and the loss that teaches it.

Covers the invariants of the index loss: the teacher is the joint softmax over window, entries and sink, the loss trains
every matrix of the indexer and nothing else, and no other loss trains the indexer.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from octavo.cache.view import Controls, Group, Picks, View
from octavo.kernels.hadamard import hadamard
from octavo.kernels.index_topk import index_scores, index_topk
from octavo.kernels.rope import rotate
from octavo.kernels.rows import DenseRows
from octavo.kernels.sparse_attention import Causal, Picked, sparse_attention
from octavo.model.indexer import Indexer, Queries, divergence, random_picks
from octavo.model.rotary import Rotary
from octavo.model.transformer import Output, Transformer
from tests.support.tiny import build_model, random_tensors, tiny_config

CONFIG = tiny_config(compress_ratios=(4, 128, 4), index_topk=8)


def make() -> Indexer:
    indexer = Indexer(CONFIG, layer=0).double()
    for parameter in indexer.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return indexer


def group_of(length: int, rows: int = 1) -> Group:
    return View.packed([i * length for i in range(rows + 1)]).groups[0]


def asked(S: int, B: int = 1) -> tuple[Queries, DenseRows]:
    keys = DenseRows(torch.randn(B, S // 4, 32))
    return Queries(torch.randn(B, S, 4, 32), torch.randn(B, S, 4)), keys


def run(controls: Controls, length: int = 150) -> tuple[Transformer, Output]:
    """A pass of a random model that can be differentiated."""
    model = build_model(CONFIG, random_tensors(CONFIG, 0)).requires_grad_(True)
    view = View.packed([0, length, 2 * length], controls=controls)
    return model, model(torch.randint(0, CONFIG.vocab_size, (2 * length,)), view)


def test_queries_by_hand() -> None:
    indexer, x, latent = make(), torch.randn(6, 32, dtype=torch.float64), torch.randn(6, 24, dtype=torch.float64)
    cos, sin = Rotary(CONFIG).table(torch.arange(6), 4, torch.float64)
    made = indexer.queries(x, latent, (cos, sin))
    for h in range(4):
        q = latent @ indexer.wq_b.weight[32 * h : 32 * (h + 1)].T
        torch.testing.assert_close(made.q[:, h], hadamard(rotate(q, cos, sin)))
    torch.testing.assert_close(made.w, x @ indexer.weights_proj.weight.T / math.sqrt(32 * 4))


def test_choice_by_controls() -> None:
    indexer, (queries, keys), group = make(), asked(80), group_of(80)

    def select(**controls: object) -> Causal | Picked:
        return indexer.select(queries, keys, group, Controls(**controls))  # type: ignore[arg-type]

    expected = index_topk(queries.q, queries.w, keys, first=0, ratio=4, k=8)
    chosen = select()
    assert isinstance(chosen, Picked)
    assert torch.equal(chosen.index, expected)
    fewer = select(index_topk=3)
    assert isinstance(fewer, Picked)
    assert fewer.index.shape == (1, 80, 3)
    assert select(picks=Picks.ALL) == Causal(4)
    assert select(index_topk=20) == Causal(4)  # 80 tokens have 20 entries: nothing to choose
    at_random = select(picks=Picks.RANDOM)
    assert isinstance(at_random, Picked)
    assert not torch.equal(at_random.index.sort().values, expected.sort().values)


def test_random_picks_are_visible_distinct_and_repeatable() -> None:
    group = group_of(90, rows=2)
    picks = random_picks(group, 7, torch.device("cpu"))
    assert picks.shape == (2, 90, 7)
    assert torch.equal(picks, random_picks(group, 7, torch.device("cpu")))
    for t in range(90):
        for row in picks[:, t].tolist():
            real = [e for e in row if e != -1]
            assert len(set(real)) == len(real)
            assert all(0 <= e < (t + 1) // 4 for e in real)
    assert (picks[:, :3] == -1).all()
    assert len(picks[:, 60:].unique()) > 15


def test_divergence_by_hand() -> None:
    scores, mass = torch.randn(1, 2, 4, dtype=torch.float64), torch.rand(1, 2, 4, dtype=torch.float64)
    seen = torch.tensor([[[True, True, False, True], [True, True, True, True]]])
    mass = mass * seen
    expected = 0.0
    for s in range(2):
        teacher, student = (mass[0, s] / mass[0, s].sum())[seen[0, s]], scores[0, s][seen[0, s]].log_softmax(0)
        expected += float((teacher * (teacher.log() - student)).sum())
    loss = divergence(scores, mass, seen)
    assert float(loss.divergence) == pytest.approx(expected, abs=1e-12)
    assert int(loss.queries) == 2


def test_divergence_is_zero_for_a_perfect_student_and_blind_to_the_total_mass() -> None:
    scores, seen = torch.randn(2, 3, 5, dtype=torch.float64), torch.ones(2, 3, 5, dtype=torch.bool)
    assert float(divergence(scores, 0.37 * scores.softmax(-1), seen).divergence) == pytest.approx(0.0, abs=1e-12)
    mass = torch.rand(2, 3, 5, dtype=torch.float64)
    one, other = divergence(scores, mass, seen), divergence(scores, 0.01 * mass, seen)
    assert float(one.divergence) == pytest.approx(float(other.divergence), abs=1e-12)
    assert float(one.divergence) > 0.1


def test_queries_without_a_teacher_are_left_out() -> None:
    scores = torch.randn(1, 3, 4, requires_grad=True)
    mass = torch.tensor([[[0.0, 0, 0, 0], [1e-8, 1e-8, 0, 0], [0.2, 0.1, 0, 0]]])
    seen = torch.tensor([[[False] * 4, [True] * 4, [True, True, False, False]]])
    loss = divergence(scores, mass, seen)
    assert int(loss.queries) == 1
    loss.divergence.backward()
    assert scores.grad is not None
    assert torch.isfinite(scores.grad).all()
    assert scores.grad.abs().sum(-1)[0].gt(0).tolist() == [False, False, True]
    assert scores.grad[0, 2, 2:].abs().max() == 0


def test_gradient_of_the_loss() -> None:
    inputs = [torch.randn(s, dtype=torch.float64, requires_grad=True) for s in ((1, 5, 2, 3), (1, 5, 2), (1, 4, 3))]
    mass = torch.rand(1, 5, 4, dtype=torch.float64).tril(-1)
    seen = mass > 0
    assert torch.autograd.gradcheck(lambda q, w, k: divergence(index_scores(q, w, k), mass, seen).divergence, inputs)


def teacher_of(sink: Tensor, q: Tensor, rows: Tensor, entries: Tensor) -> Tensor:
    """The normalised teacher of one query over its entries."""
    selection = Causal(4)
    _, mass = sparse_attention(
        q, rows, sink, first=19, window=5, scale=0.5, rows=DenseRows(entries), selection=selection, mass_every=1
    )
    assert mass is not None
    return mass[0, 0] / mass[0, 0].sum()


def test_teacher_is_the_joint_softmax_of_every_head() -> None:
    shapes = ((1, 1, 3, 4), (1, 5, 4), (1, 5, 4), (3,))
    q, rows, entries, sink = (torch.randn(s, dtype=torch.float64) for s in shapes)
    before = teacher_of(sink, q, rows, entries)
    one_head = sink.clone()
    one_head[1] += 3.0
    assert (teacher_of(one_head, q, rows, entries) - before).abs().max() > 1e-3
    logits = torch.einsum("hk,nk->hn", q[0, 0], torch.cat((rows[0], entries[0]))) * 0.5
    rest = logits.exp().sum(1)
    total = rest + sink.exp()
    louder = (3.0 * total - rest).log()  # every head's normaliser grows by the same factor
    torch.testing.assert_close(teacher_of(louder, q, rows, entries), before, rtol=0, atol=1e-12)
    by_hand = (logits[:, 5:].exp() / total.unsqueeze(1)).sum(0)
    torch.testing.assert_close(before, by_hand / by_hand.sum(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("picks", [Picks.ALL, Picks.INDEX])
def test_index_loss_trains_all_of_the_indexer_and_nothing_else(picks: Picks) -> None:
    model, out = run(Controls(picks=picks, index_loss=True))
    losses = [r.index_loss.divergence for r in out.reports if r.index_loss is not None]
    assert len(losses) == 2
    torch.stack(losses).sum().backward()
    for name, parameter in model.named_parameters():
        if ".indexer." in name:
            assert parameter.grad is not None, name
            assert parameter.grad.abs().max() > 0, name
        else:
            assert parameter.grad is None or parameter.grad.abs().max() == 0, name


def test_no_other_loss_trains_the_indexer() -> None:
    model, out = run(Controls(index_loss=True, load=True))
    logits = model.logits(out.streams)
    balance = torch.stack([r.load.balance for r in out.reports if r.load is not None]).sum()
    (logits.logsumexp(-1).sum() + balance).backward()
    for name, parameter in model.named_parameters():
        if ".indexer." in name:
            assert parameter.grad is None, name
    assert model.embed.weight.grad is not None


def test_loss_over_picks_equals_loss_over_all_when_all_are_picked() -> None:
    indexer, (queries, keys), group = make(), asked(40), group_of(40)
    entry = torch.arange(10)
    index = torch.where(entry < ((torch.arange(40) + 1) // 4).unsqueeze(1), entry, -1).unsqueeze(0)
    mass = torch.rand(1, 40, 10) * (index >= 0)
    over_all = indexer.loss(queries, keys, Causal(4), mass, group)
    over_picks = indexer.loss(queries, keys, Picked(index), mass, group)
    torch.testing.assert_close(over_all.divergence, over_picks.divergence)
    assert int(over_all.queries) == int(over_picks.queries) == 37


@pytest.mark.parametrize("topk", [None, 8])
def test_the_loss_at_every_third_query_is_that_of_those_queries(topk: int | None) -> None:
    """Against the whole loss's terms: the indexer's divergence of queries 2, 5, .. alone."""
    picks = Picks.ALL if topk is None else Picks.INDEX
    indexer = make().float()
    (queries, keys), group = asked(150), group_of(150)
    selection = indexer.select(queries, keys, group, Controls(picks=picks, index_topk=topk))
    q, rows, sink = torch.randn(1, 150, 2, 16), torch.randn(1, 150, 16), torch.zeros(2)
    entries = DenseRows(torch.randn(1, 37, 16))
    options = {"first": 0, "window": 5, "scale": 0.5, "rows": entries, "selection": selection}
    _, mass = sparse_attention(q, rows, sink, mass_every=3, **options)
    _, whole = sparse_attention(q, rows, sink, mass_every=1, **options)
    assert mass is not None
    assert whole is not None
    torch.testing.assert_close(mass, whole[:, 2::3])
    found = indexer.loss(queries, keys, selection, mass, group, 3)
    terms = [indexer.loss(queries, keys, selection, _only(whole, s), group) for s in range(2, 150, 3)]
    torch.testing.assert_close(found.divergence, torch.stack([t.divergence for t in terms]).sum())
    assert int(found.queries) == sum(int(t.queries) for t in terms)


def _only(mass: Tensor, s: int) -> Tensor:
    """The mass of query s; all others have none and are left out of the loss."""
    kept = torch.zeros_like(mass)
    kept[:, s] = mass[:, s]
    return kept
