"""Operations on rows of several documents: each query's bounds, in every body, against the documents one by one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton")

from octavo.cache.documents import Documents
from octavo.kernels import dispatch
from octavo.kernels.compress import pool_placed
from octavo.kernels.compress.ref import _pool_placed
from octavo.kernels.index_topk.masked import masked_topk
from octavo.kernels.index_topk.ref import bounded_topk, reference_topk
from octavo.kernels.index_topk.triton_training import marked_topk
from octavo.kernels.rows import DenseRows
from octavo.kernels.selection import WORD, Bounds, Causal, Marked, Masked, Picked, Selection
from octavo.kernels.sparse_attention import sparse_attention, training
from octavo.kernels.sparse_attention.ref import reference_attention
from octavo.kernels.sparse_attention.tiled import tiled_attention
from tests.support.packing import numbers, restarted

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
LENGTHS = (5, 1, 17, 4, 12)  # 39 tokens
H, K, WINDOW, RATIO = 3, 16, 6, 4


def documents_of(*rows: tuple[int, ...]) -> Documents:
    given = torch.stack([numbers(one) for one in rows]), torch.stack([restarted(one) for one in rows])
    return Documents(*(one.to(DEVICE) for one in given))


ROWS = (LENGTHS, LENGTHS[::-1])
BORDERS = documents_of(*ROWS)
BOUNDS = BORDERS.entries(RATIO).bounds
COUNT = 39 // RATIO


def chosen(share: float) -> Tensor:
    """Entries that queries see at random among those of their documents, bool."""
    draw = torch.rand(2, 39, COUNT, generator=torch.Generator().manual_seed(3)).to(DEVICE)
    return BOUNDS.marks(COUNT) & (draw < share)


def picked() -> Picked:
    seen = chosen(0.6)
    order = torch.where(seen, torch.arange(COUNT, device=DEVICE), COUNT).sort(-1).values[..., :6]
    return Picked(order.masked_fill(order == COUNT, -1))


def marked() -> Marked:
    seen = torch.nn.functional.pad(chosen(0.6), (0, WORD - COUNT)).unsqueeze(-2)
    return Marked((seen.long() << torch.arange(WORD, device=DEVICE)).sum(-1), COUNT, RATIO)


SELECTIONS: dict[str, Callable[[], Selection | None]] = {
    "window": lambda: None,
    "all": lambda: Causal(RATIO, bounds=BOUNDS),
    "diluted": lambda: Causal(RATIO, torch.tensor([0.5, -1.0], device=DEVICE), BOUNDS),
    "picked": picked,
    "masked": lambda: Masked(chosen(0.6)),
    "marked": marked,
}
Inputs = tuple[Tensor, Tensor, Tensor, Tensor]


def inputs(dtype: torch.dtype = torch.float64) -> Inputs:
    torch.manual_seed(5)
    shapes = ((2, 39, H, K), (2, 39, K), (H,), (2, COUNT, K))
    made = [torch.randn(shape, device=DEVICE).to(dtype).requires_grad_() for shape in shapes]
    return made[0], made[1], made[2], made[3]


def one_by_one(given: Inputs, selection: Selection | None, every: int) -> tuple[Tensor, Tensor | None]:
    """The reference over each document, with the entries that it has alone."""
    q, near, sink, far = given
    outs, masses = [], []
    for row, order in enumerate(ROWS):
        start, parts, sums = 0, [], []
        for n in order:
            low, stop = int(BOUNDS.first[row, start]), int(BOUNDS.stop[row, start + n - 1])
            here, some = slice(start, start + n), (slice(row, row + 1), slice(start, start + n))
            mine: Selection | None = None
            if isinstance(selection, Causal):
                level = None if selection.offset is None else selection.offset[row : row + 1]
                mine = Causal(RATIO, level)
            elif selection is not None:
                seen = chosen(0.6)[some][..., low:stop]
                mine = Masked(seen)
            o, mass = reference_attention(
                q[row : row + 1, here], near[row : row + 1, here], sink, first=0, window=WINDOW, scale=0.3,
                rows=None if mine is None or stop == low else DenseRows(far[row : row + 1, low:stop]),
                selection=None if stop == low else mine, mass_every=1,
            )  # fmt: skip
            parts.append(o)
            full = q.new_zeros(1, n, COUNT)
            if mass is not None:
                full[..., low:stop] = mass
            sums.append(full)
            start += n
        outs.append(torch.cat(parts, dim=1))
        masses.append(torch.cat(sums, dim=1))
    o, mass = torch.cat(outs), torch.cat(masses)[:, every - 1 :: every].detach()
    if isinstance(selection, Picked):
        index = selection.index[:, every - 1 :: every]
        mass = mass.gather(2, index.clamp_min(0)).masked_fill(index < 0, 0)
    return o, None if selection is None else mass


BODIES: dict[str, tuple[Callable[..., tuple[Tensor, Tensor | None]], torch.dtype]] = {
    "reference": (reference_attention, torch.float64),
    "tiled": (tiled_attention, torch.float64),
    "triton": (training.attend, torch.float32),
}


NEVER = {("triton", "masked"), ("tiled", "marked")}  # bodies do not get these


@pytest.mark.parametrize(("body", "name"), [(b, n) for b in BODIES for n in SELECTIONS if (b, n) not in NEVER])
@pytest.mark.parametrize("every", [1, 5])
def test_attention_and_gradients_are_those_of_the_documents(body: str, name: str, every: int) -> None:
    attend, dtype = BODIES[body]
    selection = SELECTIONS[name]()
    given, exact = inputs(dtype), inputs()
    o, mass = attend(
        given[0], given[1], given[2], first=0, window=WINDOW, scale=0.3, begin=BORDERS.begin, mass_every=every,
        rows=None if selection is None else DenseRows(given[3]), selection=selection,
    )  # fmt: skip
    expected, wanted = one_by_one(exact, selection, every)
    close: dict[str, Any] = {"rtol": 1e-5, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 1e-9, "atol": 1e-10}
    torch.testing.assert_close(o.double(), expected, **close)
    assert (mass is None) == (wanted is None)
    if mass is not None and wanted is not None:
        torch.testing.assert_close(mass.double(), wanted, **close)
    used = 3 if selection is None else 4
    g = torch.randn(o.shape, generator=torch.Generator().manual_seed(1)).to(DEVICE)
    grads = torch.autograd.grad(o, given[:used], g.to(dtype))
    for one, other in zip(grads, torch.autograd.grad(expected, exact[:used], g.double()), strict=True):
        torch.testing.assert_close(one.double(), other, **close)


def test_wide_rows_of_bf16_in_triton() -> None:
    """Two tiles of channels, as many heads as a product has rows."""
    torch.manual_seed(0)
    shapes = ((1, 39, 16, 320), (1, 39, 320), (16,), (1, COUNT, 320))
    given = [torch.randn(shape, device=DEVICE).bfloat16().requires_grad_() for shape in shapes]
    exact = [x.detach().float().requires_grad_() for x in given]
    bounds = BOUNDS.of(slice(None))
    options: dict[str, Any] = {
        "first": 0, "window": WINDOW, "scale": 0.05, "mass_every": 0, "begin": BORDERS.begin[:1],
        "selection": Causal(RATIO, bounds=Bounds(bounds.first[:1], bounds.stop[:1])),
    }  # fmt: skip
    o, _ = training.attend(given[0], given[1], given[2], rows=DenseRows(given[3]), **options)
    expected, _ = reference_attention(exact[0], exact[1], exact[2], rows=DenseRows(exact[3]), **options)
    assert (o.float() - expected).norm() <= 2e-2 * expected.norm()
    g = torch.randn_like(expected).bfloat16()
    grads = torch.autograd.grad(o, given, g), torch.autograd.grad(expected, exact, g.float())
    for one, other in zip(*grads, strict=True):
        assert (one.float() - other).norm() <= 2e-2 * other.norm()


@pytest.mark.parametrize("name", ["all", "marked", "picked"])
@pytest.mark.parametrize("body", list(dispatch.Body))
def test_the_operation_takes_a_body_that_knows_borders(name: str, body: dispatch.Body) -> None:
    """Without gradients too, where compiled bodies serve other rows."""
    selection = SELECTIONS[name]()
    given = inputs(torch.float32)
    with dispatch.use(body), torch.no_grad():
        o, _ = sparse_attention(
            given[0], given[1], given[2], first=0, window=WINDOW, scale=0.3, rows=DenseRows(given[3]),
            selection=selection, begin=BORDERS.begin,
        )  # fmt: skip
    expected, _ = one_by_one(inputs(), selection, 1)
    torch.testing.assert_close(o.double(), expected, rtol=1e-5, atol=1e-5)


def test_tiled_attention_in_many_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows longer than a block of queries, in pieces."""
    lengths = (70, 1, 130, 63, 36)
    documents, q = documents_of(lengths), torch.randn(1, 300, 2, 8, dtype=torch.float64, device=DEVICE)
    near, far = torch.randn(1, 300, 8).to(q), torch.randn(1, 75, 8).to(q)
    monkeypatch.setattr("octavo.kernels.sparse_attention.tiled._CPU_ELEMENTS", 1 << 12)
    monkeypatch.setattr("octavo.kernels.sparse_attention.tiled._GPU_ELEMENTS", 1 << 12)
    options: dict[str, Any] = {
        "first": 0, "window": 20, "scale": 0.3, "mass_every": 3, "begin": documents.begin, "rows": DenseRows(far),
        "selection": Causal(4, bounds=documents.entries(4).bounds),
    }  # fmt: skip
    sink = torch.zeros(2).to(q)
    made, wanted = (body(q, near, sink, **options) for body in (tiled_attention, reference_attention))
    assert made[1] is not None
    assert wanted[1] is not None
    torch.testing.assert_close(made[0], wanted[0])
    torch.testing.assert_close(made[1], wanted[1])


def whole_numbers(*shape: int, seed: int) -> Tensor:
    """Scores of these are exact, and on a CPU often equal. `torch.topk` of a GPU takes any of equal ones, so there they
    differ: none is below 0, and they are drawn from many."""
    low, high = (-2, 3) if DEVICE == "cpu" else (0, 50)
    return torch.randint(low, high, shape, generator=torch.Generator().manual_seed(seed)).float().to(DEVICE)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_picks_are_those_of_the_documents(k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    q, w = whole_numbers(2, 39, 2, 16, seed=1), whole_numbers(2, 39, 2, seed=2)
    keys, expected = DenseRows(whole_numbers(2, COUNT, 16, seed=3)), torch.zeros(2, 39, COUNT, dtype=torch.bool)
    for row, order in enumerate(ROWS):
        start = 0
        for n in order:
            low, stop = int(BOUNDS.first[row, start]), int(BOUNDS.stop[row, start + n - 1])
            some = slice(row, row + 1), slice(start, start + n)
            mine = DenseRows(keys.values_BCK[row : row + 1, low:stop])
            if stop > low:
                listed = reference_topk(q[some], w[some], mine, first=0, ratio=RATIO, k=k)[0].cpu()
                for at, picks in enumerate(listed.tolist()):
                    expected[row, start + at, [low + e for e in picks if e >= 0]] = True
            start += n
    monkeypatch.setattr("octavo.kernels.index_topk.ref._ELEMENTS", 100)
    rules: dict[str, Any] = {"first": 0, "ratio": RATIO, "k": k, "bounds": BOUNDS}
    marks = marked_topk(q, w, keys, **rules).of(slice(None)).cpu()
    masks = masked_topk(q, w, keys, **rules).cpu()
    listed = bounded_topk(q, w, keys, BOUNDS, k=k).cpu()
    assert listed.shape == (2, 39, k)
    place = listed.masked_fill(listed < 0, COUNT)
    seen = torch.zeros(2, 39, COUNT + 1, dtype=torch.bool).scatter(2, place, True)[..., :COUNT]
    for name, found in {"marked": marks, "masked": masks, "listed": seen}.items():
        assert torch.equal(found, expected), name


@pytest.mark.parametrize("pooled", [pool_placed, _pool_placed])
def test_a_documents_first_entry_has_no_previous_half(pooled: Callable[..., Tensor]) -> None:
    raw = torch.randn(2, 39, 2 * 2 * 6, dtype=torch.float64, device=DEVICE)
    bias = torch.randn(RATIO, 2 * 6).to(raw)
    rules: dict[str, Any] = {"ratio": RATIO, "overlap": True, "has_previous": False}
    entries = BORDERS.entries(RATIO)
    made = pooled(BORDERS.blocks(raw, RATIO), bias, **rules, fresh=entries.fresh)
    for row, order in enumerate(ROWS):
        start = at = 0
        for n in order:
            count = n // RATIO
            if count:
                alone = pooled(raw[row : row + 1, start : start + count * RATIO], bias, **rules)
                torch.testing.assert_close(made[row, at : at + count], alone[0])
            start, at = start + n, at + count


def test_bounds_of_some_queries() -> None:
    some = slice(4, None, 5)
    assert torch.equal(BOUNDS.of(some).marks(COUNT), BOUNDS.marks(COUNT)[:, some])
    assert replace(Causal(RATIO), bounds=BOUNDS).bounds is BOUNDS
