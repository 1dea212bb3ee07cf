"""Window, entries and sink in one softmax: the definition head by head, blocks and pieces, picks, mass, gradient."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from octavo.cache.layout import CacheLayout
from octavo.cache.pool import PagedRows, PagePool
from octavo.kernels.dispatch import Body, use
from octavo.kernels.rows import DenseRows
from octavo.kernels.sparse_attention import Causal, Picked, Selection, sparse_attention, tiled
from tests.support.tiny import tiny_config

W, H, K = 5, 2, 4


def by_hand(q: Tensor, rows: Tensor, sink: Tensor, entries: Tensor, seen: list[list[int]], first: int) -> Tensor:
    """One sequence: q [S, H, K], window rows [N, K], entries [C, K]; `seen[s]` are the entries of query s."""
    S, N = q.shape[0], rows.shape[0]
    out = torch.zeros_like(q)
    for s in range(S):
        last = N - S + s
        keys = torch.cat((rows[max(0, last - W + 1) : last + 1], entries[seen[s]]))
        for h in range(H):
            logits = keys @ q[s, h] * 0.5
            top = max(float(logits.max()), float(sink[h]))
            p = (logits - top).exp()
            out[s, h] = (p @ keys) / (p.sum() + math.exp(float(sink[h]) - top))
    return out


def world(S: int, past: int, C: int, *, B: int = 1, dtype: torch.dtype = torch.float64) -> tuple[Tensor, ...]:
    """Queries, window rows, sinks and entries; logits of order 1."""
    shapes = ((B, S, H, K), (B, past + S, K), (H,), (B, C, K))
    return tuple(torch.randn(shape, dtype=dtype) for shape in shapes)


def attend(
    q: Tensor, rows: Tensor, sink: Tensor, entries: Tensor | None, selection: Selection | None, **options: Any
) -> tuple[Tensor, Tensor | None]:
    dense = None if entries is None else DenseRows(entries)
    return sparse_attention(q, rows, sink, window=W, scale=0.5, rows=dense, selection=selection, **options)


@pytest.fixture(params=[1 << 21, 1, 900])
def budget(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Score elements held at once: everything in one piece, a piece for every block, or a few blocks."""
    monkeypatch.setattr(tiled, "_CPU_ELEMENTS", request.param)
    monkeypatch.setattr(tiled, "_WINDOW_BLOCK", 8)
    return request.param


@pytest.mark.usefixtures("budget")
@pytest.mark.parametrize("body", Body)
@pytest.mark.parametrize(
    ("S", "past", "first"), [(1, 0, 0), (1, 4, 61), (7, 2, 2), (8, 4, 30), (21, 0, 0), (30, 4, 33)]
)
def test_window_and_all_entries_by_hand(body: Body, S: int, past: int, first: int) -> None:
    q, rows, sink, entries = world(S, past, (first + S) // 4 + 1)
    seen = [list(range((first + s + 1) // 4)) for s in range(S)]
    with use(body):
        o, mass = attend(q, rows, sink, entries, Causal(4), first=first)
        alone, _ = attend(q, rows, sink, None, None, first=first)
    assert mass is None
    torch.testing.assert_close(o[0], by_hand(q[0], rows[0], sink, entries[0], seen, first), rtol=0, atol=1e-12)
    expected = by_hand(q[0], rows[0], sink, entries[0], [[]] * S, first)
    torch.testing.assert_close(alone[0], expected, rtol=0, atol=1e-12)


@pytest.mark.usefixtures("budget")
@pytest.mark.parametrize("body", Body)
def test_picked_entries_by_hand(body: Body) -> None:
    S, first = 19, 40
    q, rows, sink, entries = world(S, 4, 14, B=2)
    index = torch.rand(2, S, 14).argsort(-1)[..., :6]
    index = index.masked_fill(torch.rand(2, S, 6) < 0.4, -1)
    index[:, 3] = -1
    with use(body):
        o, _ = attend(q, rows, sink, entries, Picked(index), first=first)
    for b in range(2):
        seen = [[e for e in row if e >= 0] for row in index[b].tolist()]
        torch.testing.assert_close(o[b], by_hand(q[b], rows[b], sink, entries[b], seen, first), rtol=0, atol=1e-12)


@pytest.mark.usefixtures("budget")
def test_blocks_before_the_first_entry() -> None:
    q, rows, sink, entries = world(40, 0, 1)
    o, mass = attend(q, rows, sink, entries, Causal(32), first=0, mass_every=1)
    with use(Body.REFERENCE):
        expected, expected_mass = attend(q, rows, sink, entries, Causal(32), first=0, mass_every=1)
    torch.testing.assert_close(o, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(mass, expected_mass, rtol=0, atol=1e-12)
    assert mass is not None
    assert mass[0, :31].abs().max() == 0


@pytest.mark.usefixtures("budget")
@pytest.mark.parametrize("selection", ["causal", "offset", "picked"])
def test_bodies_agree_on_output_and_mass(selection: str) -> None:
    S, first = 27, 25
    q, rows, sink, entries = world(S, 4, 13, B=3)
    chosen: Selection = Causal(4)
    if selection == "offset":
        chosen = Causal(4, torch.tensor([0.0, 3.0, -1.0]))
    if selection == "picked":
        index = torch.rand(3, S, 13).argsort(-1)[..., :5]
        chosen = Picked(index.masked_fill(index > 8, -1))
    o, mass = attend(q, rows, sink, entries, chosen, first=first, mass_every=1)
    with use(Body.REFERENCE):
        expected, expected_mass = attend(q, rows, sink, entries, chosen, first=first, mass_every=1)
    assert mass is not None
    assert mass.shape == (3, S, 5 if selection == "picked" else 13)
    torch.testing.assert_close(o, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(mass, expected_mass, rtol=0, atol=1e-12)


def test_an_offset_of_log_n_makes_an_entry_weigh_as_n_of_its_like() -> None:
    q, rows, sink, entries = world(5, 3, 2)
    threefold = entries.repeat(1, 3, 1)
    few, _ = attend(q, rows, sink, entries, Causal(1, torch.tensor([3.0]).log()), first=5)
    many, _ = attend(q, rows, sink, threefold, Causal(1), first=5)
    torch.testing.assert_close(few, many, rtol=0, atol=1e-7)


def test_masked_form_equals_the_gathered_one(monkeypatch: pytest.MonkeyPatch) -> None:
    q, rows, sink, entries = world(16, 4, 9)
    index = torch.rand(1, 16, 9).argsort(-1)[..., :4].masked_fill(torch.rand(1, 16, 4) < 0.3, -1)
    gathered = attend(q, rows, sink, entries, Picked(index), first=40, mass_every=1)
    logits = tiled._Piece._entry_logits

    class OnGpu:
        """Only the choice between the two forms asks a query where it lives."""

        is_cuda = True

        def __init__(self, q: Tensor) -> None:
            self.shape, self.device, self.dtype, self.reshape = q.shape, q.device, q.dtype, q.reshape

    monkeypatch.setattr(tiled._Piece, "_entry_logits", lambda self, q, rows, picks: logits(self, OnGpu(q), rows, picks))
    masked = attend(q, rows, sink, entries, Picked(index), first=40, mass_every=1)
    for one, other in zip(masked, gathered, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


def test_picking_every_visible_entry_is_causal_attention() -> None:
    q, rows, sink, entries = world(24, 0, 6)
    entry = torch.arange(6)
    index = torch.where(entry < ((torch.arange(24) + 1) // 4).unsqueeze(1), entry, -1).unsqueeze(0)
    picked, _ = attend(q, rows, sink, entries, Picked(index), first=0)
    causal, _ = attend(q, rows, sink, entries, Causal(4), first=0)
    torch.testing.assert_close(picked, causal, rtol=0, atol=1e-12)


@pytest.mark.parametrize("body", Body)
def test_sink_takes_mass_and_gives_no_value(body: Body) -> None:
    q, rows, _, entries = world(9, 0, 2)
    with use(body):
        without, all_mass = attend(q, rows, torch.full((H,), -1e9), entries, Causal(4), first=0, mass_every=1)
        nothing, _ = attend(q, rows, torch.full((H,), 1e4, dtype=q.dtype), entries, Causal(4), first=0)
    key = rows[0, 0]
    torch.testing.assert_close(without[0, 0], key.expand(H, K))  # token 0 sees itself alone
    assert nothing.abs().max() == 0
    assert all_mass is not None
    assert (all_mass <= H + 1e-12).all()


@pytest.mark.parametrize("body", Body)
def test_huge_logits_stay_finite(body: Body) -> None:
    q, rows, sink, entries = world(12, 4, 4, dtype=torch.float32)
    with use(body):
        o, _ = attend(1e4 * q, rows, sink, entries, Causal(4), first=4)
    assert torch.isfinite(o).all()


def test_rows_older_than_the_window_change_nothing() -> None:
    q, rows, sink, entries = world(6, 9, 4)
    short, _ = attend(q, rows[:, 9 - (W - 1) :], sink, entries, Causal(4), first=9)
    assert torch.equal(attend(q, rows, sink, entries, Causal(4), first=9)[0], short)


def test_a_later_token_changes_no_earlier_output() -> None:
    q, rows, sink, entries = world(30, 0, 7)
    before, _ = attend(q, rows, sink, entries, Causal(4), first=0)
    rows[0, 17], entries[0, 4] = 9.0, 9.0  # entry 4 closes with token 19
    after, _ = attend(q, rows, sink, entries, Causal(4), first=0)
    changed = (before != after).flatten(2).any(-1)[0].nonzero().flatten().tolist()
    assert changed == list(range(17, 30))
    assert torch.equal(before[:, :17], after[:, :17])


def test_no_entries_is_window_attention() -> None:
    q, rows, sink, entries = world(6, 0, 0)
    o, mass = attend(q, rows, sink, entries, Causal(4), first=0, mass_every=1)
    assert mass is None
    assert torch.equal(o, attend(q, rows, sink, None, None, first=0)[0])


def test_entries_in_pages_give_the_same_output() -> None:
    pool = PagePool(CacheLayout(tiny_config()), capacity_tokens=256)
    runs = pool.runs([pool.take() for _ in range(5)][::2])
    entries, q, rows, sink = torch.randn(1, 150, 32), torch.randn(1, 20, 2, 32), torch.randn(1, 24, 32), torch.randn(2)
    pool.write(runs, (1, "main"), 0, entries[0])
    paged = PagedRows(pool, runs, (1, "main"), 150)
    for selection in (Causal(4), Picked(torch.rand(1, 20, 150).argsort(-1)[..., :8])):
        options: dict[str, Any] = {"first": 580, "window": W, "scale": 0.2, "selection": selection}
        o, _ = sparse_attention(q, rows, sink, rows=paged, **options)
        assert torch.equal(o, sparse_attention(q, rows, sink, rows=DenseRows(entries), **options)[0])


@pytest.mark.parametrize("selection", [Causal(2), Picked(torch.tensor([[[0, -1], [1, 0], [-1, -1], [2, 1]]])), None])
def test_gradient(selection: Selection | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiled, "_WINDOW_BLOCK", 2)
    inputs = [v.requires_grad_() for v in world(4, 2, 3)]

    def run(q: Tensor, rows: Tensor, sink: Tensor, entries: Tensor) -> Tensor:
        o, mass = attend(q, rows, sink, entries if selection else None, selection, first=2, mass_every=1)
        assert mass is None or not mass.requires_grad
        return o

    assert torch.autograd.gradcheck(run, inputs if selection is not None else [*inputs[:3], inputs[3].detach()])


@pytest.mark.parametrize("ratio", [0, 4, 8])
def test_a_query_has_the_same_bits_alone_and_among_a_handful(ratio: int) -> None:
    """Each sees entries that the one before it does not; ratio 0: the window alone."""
    S, past, first = 8, 4, 33
    q, rows, sink, entries = world(S, past, 12, dtype=torch.float32)
    selection = Causal(ratio) if ratio else None
    with torch.inference_mode():
        o, mass = attend(q, rows, sink, entries if ratio else None, selection, first=first, mass_every=1)
        for s in range(S):
            own = rows[:, : past + s + 1]
            alone, share = attend(
                q[:, s : s + 1], own, sink, entries if ratio else None, selection, first=first + s, mass_every=1
            )
            assert torch.equal(o[:, s : s + 1], alone)
            assert (mass is None) == (share is None) == (ratio == 0)
            if mass is not None and share is not None:
                assert torch.equal(mass[:, s : s + 1], share)
