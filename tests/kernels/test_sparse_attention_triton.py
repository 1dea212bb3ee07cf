"""Sparse attention in Triton: steps of several sequences against the reference, preparation, padding, wrong input, and
gradients of whole rows."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

pytest.importorskip("triton")

from octavo.kernels.paged import PAGE_TOKENS, Format, PagedStore, Places, Ring
from octavo.kernels.quant import decode_main_fp4, decode_rows_fp8, encode_main_fp4, encode_rows_fp8
from octavo.kernels.rows import DenseRows
from octavo.kernels.selection import WORD, Causal, Marked, Masked, Picked, Selection
from octavo.kernels.sparse_attention import training
from octavo.kernels.sparse_attention.ref import reference_attention
from octavo.kernels.sparse_attention.triton import Config, attend, config_of, ring_format
from octavo.kernels.sparse_attention.triton_training import attend_rows

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
WINDOW, R = 12, 32


def encoded(x: Tensor, form: Format, rope: int) -> tuple[Tensor, Tensor]:
    """Values [..., K] -> their bytes, and what the bytes say in FP32."""
    flat = x.reshape(-1, x.shape[-1])
    if form == "fp8":
        rows = encode_rows_fp8(flat, rope)
        values = decode_rows_fp8(rows, x.shape[-1], rope)
    elif form == "fp4":
        rows = encode_main_fp4(flat, rope)
        values = decode_main_fp4(rows, x.shape[-1], rope)
    else:
        cast = flat.bfloat16() if form == "bf16" else flat
        rows, values = cast.view(torch.uint8), cast.float()
    return rows.view(*x.shape[:-1], -1).contiguous(), values.view(x.shape)


class Step:
    """The next counts[b] tokens of sequences that hold starts[b]: pages in random order, garbage where nothing lies."""

    def __init__(
        self, starts: list[int], counts: list[int], *, H: int = 4, K: int = 32, rope: int = 16, form: Format = "fp8",
        ratio: int = 4, k: int = 0, pages: int = 2,
    ) -> None:  # fmt: skip
        self.starts, self.counts, self.ratio, self.k = starts, counts, ratio, k
        B, n = len(starts), PAGE_TOKENS // ratio
        self.places = Places.of(starts, counts, DEVICE)
        T = len(self.places.position)
        self.q, self.sink = torch.randn(T, H, K, device=DEVICE), torch.randn(H, device=DEVICE)
        longest = max(s + c for s, c in zip(starts, counts, strict=True))
        tokens, self.tokens = encoded(torch.randn(B, longest, K, device=DEVICE), ring_format(form), rope)
        ring = torch.full((B, R, tokens.shape[-1]), 255, dtype=torch.uint8, device=DEVICE)  # NaN
        for b, (start, count) in enumerate(zip(starts, counts, strict=True)):
            for t in range(max(0, start + count - R), start + count):
                ring[b, t % R] = tokens[b, t]
        entries, self.entries = encoded(torch.randn(B, pages * n, K, device=DEVICE), form, rope)
        table = torch.randperm(B * pages + 1, device=DEVICE)[: B * pages].view(B, pages).int()
        rows = torch.full(((B * pages + 1) * n, entries.shape[-1]), 255, dtype=torch.uint8, device=DEVICE)
        for b, start in enumerate(starts):
            for e in range((start + counts[b]) // ratio):
                rows[table[b, e // n] * n + e % n] = entries[b, e]
        self.store = PagedStore(rows, table, ratio, K, form, rope)
        self.ring = Ring(ring)
        self.picks = torch.full((T, k), -1, dtype=torch.int32, device=DEVICE) if k else None
        for t in range(T if k else 0):
            visible = (int(self.places.position[t]) + 1) // ratio
            chosen = torch.randperm(visible, device=DEVICE)[:k].int()
            self.picks[t, torch.randperm(k, device=DEVICE)[: len(chosen)]] = chosen

    def run(self, **options: Any) -> tuple[Tensor, Tensor | None]:
        given = {"picks": self.picks, "window": WINDOW, "scale": 0.2, "mass": True} | options
        return attend(self.q, self.ring, self.sink, self.store, self.places, **given)

    def expected(self, offset: Tensor | None = None) -> tuple[Tensor, Tensor]:
        outs, masses, t = [], [], 0
        for b, (start, count) in enumerate(zip(self.starts, self.counts, strict=True)):
            if count == 0:
                continue
            some = slice(t, t + count)
            chosen: Selection = Causal(self.ratio, None if offset is None else offset[b : b + 1])
            if self.picks is not None:
                chosen = Picked(self.picks[some].long().unsqueeze(0))
            o, mass = reference_attention(
                self.q[some].unsqueeze(0), self.tokens[b : b + 1, : start + count], self.sink, first=start,
                window=WINDOW, scale=0.2, rows=DenseRows(self.entries[b : b + 1]), selection=chosen, mass_every=1,
            )  # fmt: skip
            assert mass is not None
            outs.append(o[0])
            masses.append(mass[0])
            t += count
        return torch.cat(outs), torch.cat(masses)


def close(got: tuple[Tensor, Tensor | None], expected: tuple[Tensor, Tensor]) -> None:
    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize(
    ("form", "K", "rope"),
    [("fp8", 32, 16), ("fp8", 48, 16), ("bf16", 32, 0), ("fp32", 24, 0),
     ("fp4", 32, 16), ("fp4", 80, 16), ("fp4", 32, 0), ("fp4", 128, 64)],
)  # fmt: skip
@pytest.mark.parametrize("k", [0, 9])
def test_sequences_of_different_lengths(form: Format, K: int, rope: int, k: int) -> None:
    step = Step([70, 0, 5, 2], [2, 3, 0, 3], K=K, rope=rope, form=form, k=k)
    close(step.run(), step.expected())


@pytest.mark.parametrize(("form", "K", "rope"), [("fp8", 512, 64), ("fp4", 512, 64), ("fp4", 336, 16)])
def test_wide_rows_are_two_tiles(form: Format, K: int, rope: int) -> None:
    step = Step([100], [2], K=K, rope=rope, form=form, k=7, pages=1)
    for one, other in zip(step.run(), step.expected(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)  # the logits' standard deviation is 4.5


@pytest.mark.parametrize(
    "config",
    [
        Config(16, 16, 1, 3, 4, 1),
        Config(16, 32, 1, 40, 4, 1),
        Config(16, 16, 1, 1, 4, 1, listed=True),
        Config(16, 16, 1, 2, 4, 1, listed=True, unpacked=True),
        Config(16, 16, 1, 1, 4, 1, unpacked=True),
    ],
)
@pytest.mark.parametrize("form", ["fp8", "fp4"])
def test_every_way_to_picks_gives_the_same(config: Config, form: Format) -> None:
    step = Step([90, 3, 30], [1, 2, 2], k=9, form=form)
    close(step.run(config=config), step.expected())


@pytest.mark.parametrize(
    "config",
    [Config(4, 16, 4, 1, 4, 1), Config(4, 16, 8, 3, 4, 1), Config(4, 16, 4, 2, 4, 1, unpacked=True)],
)
@pytest.mark.parametrize("form", ["fp8", "fp4"])
def test_neighbours_share_a_program_across_borders(config: Config, form: Format) -> None:
    step = Step([70, 0, 40, 4], [3, 2, 1, 5], form=form)
    offset = torch.tensor([0.0, 1.5, -2.0, 3.0], device=DEVICE)
    step.places.position[4] = -1  # padding inside a group
    o, mass = step.run(config=config, offset=offset)
    step.places.position[4] = 1
    expected, shares = step.expected(offset)
    expected[4], shares[4] = 0, 0
    close((o, mass), (expected, shares))


def test_padding_gives_zeros_and_its_picks_are_not_read() -> None:
    step = Step([50], [4], k=5)
    expected, shares = step.expected()
    step.places.position[2:] = -1
    assert step.picks is not None
    step.picks[2:] = 1 << 28
    expected[2:], shares[2:] = 0, 0
    for config in (None, Config(16, 16, 1, 2, 4, 1), Config(16, 16, 1, 1, 4, 1, listed=True, unpacked=True)):
        close(step.run(config=config), (expected, shares))


def test_no_entries_is_window_attention() -> None:
    step = Step([20], [3], form="bf16", rope=0)
    alone, mass = attend(step.q, step.ring, step.sink, None, step.places, window=WINDOW, scale=0.2, mass=True)
    assert mass is None
    expected, _ = reference_attention(
        step.q.unsqueeze(0), step.tokens[:, :23], step.sink, first=20, window=WINDOW, scale=0.2, rows=None,
        selection=None, mass_every=0,
    )  # fmt: skip
    torch.testing.assert_close(alone, expected[0], rtol=1e-5, atol=2e-6)
    empty = PagedStore(step.store.rows, step.store.table[:, :0], 4, 32, "bf16")
    assert torch.equal(attend(step.q, step.ring, step.sink, empty, step.places, window=WINDOW, scale=0.2)[0], alone)
    nothing = torch.full((3, 6), -1, dtype=torch.int32, device=DEVICE)
    torch.testing.assert_close(step.run(picks=nothing)[0], alone)
    assert attend(
        step.q[:0], step.ring, step.sink, None, Places.of([0], [0], DEVICE), window=WINDOW, scale=0.2
    )[0].shape == (0, 4, 32)  # fmt: skip


@pytest.mark.parametrize("form", ["fp8", "fp4"])
def test_format_without_a_store_follows_from_the_row(form: Format) -> None:
    step = Step([20], [2], form=form)
    o, _ = attend(step.q, step.ring, step.sink, None, step.places, window=WINDOW, scale=0.2)
    step.store = PagedStore(step.store.rows, step.store.table[:, :0], 4, 32, form, 16)
    assert torch.equal(o, step.run()[0])


def test_sinks_of_any_size_and_huge_logits() -> None:
    step = Step([30], [2])
    for config in (Config(16, 16, 1, 1, 4, 1), Config(16, 16, 1, 3, 4, 1)):
        step.sink = torch.tensor([-math.inf, 1e4, 0.0, -1e4], device=DEVICE)
        o, mass = step.run(config=config)
        close((o, mass), step.expected())
        assert o[:, 1].abs().max() == 0
    # Whole numbers times a power of two: logits hardly round, and lie so far apart that their rounding decides nothing.
    step.q = 2.0**20 * step.q.round()
    close(step.run(), step.expected())


def test_a_row_with_nan_reaches_only_those_who_see_it() -> None:
    step = Step([40], [3], form="fp32", rope=0)
    step.ring.rows[0, 42 % R] = 255  # the last token's own row
    o, _ = step.run(config=Config(16, 16, 1, 2, 4, 1))
    assert torch.isfinite(o[:2]).all()
    assert o[2].isnan().all()


def test_out_takes_the_result_in_its_dtype() -> None:
    step = Step([30], [2])
    out = torch.empty(2, 4, 32, dtype=torch.float16, device=DEVICE)
    o, _ = step.run(out=out)
    assert o is out
    torch.testing.assert_close(o, step.run()[0].half(), rtol=0, atol=0)


def test_sizes_follow_from_shapes() -> None:
    q = torch.empty(0, dtype=torch.bfloat16)
    given = {"rows": 1 << 20, "picked": True, "q": q}
    one = config_of(1, 64, 640, **given)
    assert (one.block_h, one.splits, one.listed, one.unpacked) == (16, 20, False, False)
    assert config_of(1, 64, 8320, rows=1 << 20, picked=False, q=q).splits == 33
    many = config_of(4096, 64, 640, **given)
    assert (many.block_h, many.queries, many.splits, many.listed, many.unpacked) == (64, 1, 1, True, False)
    assert config_of(4096, 64, 640, rows=10240, picked=True, q=q).unpacked
    few_heads = config_of(4096, 4, 256, rows=10240, picked=False, q=q)
    assert (few_heads.block_h, few_heads.queries) == (4, 16)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"window": 33}, "window is 33 of a ring of 32"),
        ({"window": 0}, "window is 0"),
        ({"picks": torch.zeros(2, 3, dtype=torch.int64, device=DEVICE)}, "picks is torch.int64"),
        ({"picks": torch.zeros(3, 3, dtype=torch.int32, device=DEVICE)}, r"picks is .*shape \(2, 3\)"),
        ({"offset": torch.zeros(2, device=DEVICE), "picks": None}, r"offset is .*shape \(1,\)"),
        ({"offset": torch.zeros(1, device=DEVICE)}, "offset is given with picks"),
        ({"out": torch.zeros(2, 4, 16, device=DEVICE)}, r"out is .*shape \(2, 4, 32\)"),
        ({"config": Config(4, 16, 4, 1, 4, 1)}, "config.queries is 4"),
    ],
)
def test_wrong_input_is_named(change: dict[str, Any], message: str) -> None:
    step = Step([30], [2], k=3)
    with pytest.raises(ValueError, match=message):
        step.run(**change)


def test_wrong_stores_are_named() -> None:
    step = Step([30], [2])
    rows, table = step.store.rows, step.store.table
    for store, message in (
        (PagedStore(rows, table, 4, 32, "fp64"), "store.format is fp64"),  # pyright: ignore[reportArgumentType]
        (PagedStore(rows, table, 4, 32, "fp4", 16), "store.rows is"),
        (PagedStore(rows, table, 4, 32, "fp4", 8), r"K \+ rope a multiple of 16"),
        (PagedStore(rows, table, 4, 32, "fp8", 12), "rope is 12 of 32"),
        (PagedStore(rows, table, 4, 32, "bf16"), "ring.rows is"),
        (PagedStore(rows, table.long(), 4, 32, "fp8", 16), "store.table is torch.int64"),
        (PagedStore(rows, table, 4, 16, "fp8", 16), "store.width is 16"),
    ):
        step.store = store
        with pytest.raises(ValueError, match=message):
            step.run()
    with pytest.raises(ValueError, match="picks or offset is given without a store"):
        attend(step.q, step.ring, step.sink, None, step.places, picks=table, window=4, scale=1.0)


def picked(B: int, S: int, C: int, k: int) -> Picked:
    index = torch.rand(B, S, C).argsort(-1)[..., :k]
    return Picked(index.masked_fill(torch.rand(B, S, k) < 0.3, -1).to(DEVICE))


def marked(B: int, S: int, C: int, *, first: int, ratio: int) -> Marked:
    visible = torch.arange(C) < ((torch.arange(S) + first + 1) // ratio).view(1, -1, 1)
    seen = F.pad((torch.rand(B, S, C) < 0.4) & visible, (0, -C % WORD)).unflatten(-1, (-1, WORD))
    words = (seen.long() << torch.arange(WORD)).sum(-1)
    return Marked(words.to(DEVICE), C, ratio)


@pytest.mark.parametrize(
    ("shape", "selection", "first"),
    [
        ((2, 11, 3, 16, 14, 5), None, 5),
        ((2, 11, 3, 16, 14, 6), marked(2, 11, 6, first=7, ratio=3), 7),
        ((1, 13, 1, 24, 13, 70), marked(1, 13, 70, first=200, ratio=3), 200),
        ((2, 21, 1, 16, 21, 5), marked(2, 21, 5, first=0, ratio=4), 0),
        ((2, 11, 3, 16, 14, 6), Causal(3), 7),
        ((2, 21, 1, 24, 21, 5), Causal(4, torch.tensor([0.5, -1.0], device=DEVICE)), 0),
        ((2, 7, 3, 16, 9, 8), picked(2, 7, 8, 5), 30),
        ((1, 3, 2, 320, 4, 6), picked(1, 3, 6, 4), 30),
    ],
)
def test_gradients(shape: tuple[int, ...], selection: Selection | None, first: int) -> None:
    B, S, H, K, N, C = shape
    inputs = [torch.randn(x, device=DEVICE) for x in ((B, S, H, K), (B, N, K), (H,), (B, C, K))]
    inputs = inputs if selection is not None else inputs[:3]
    ours, exact = ([x.to(kind).requires_grad_() for x in inputs] for kind in (torch.float32, torch.float64))
    options: dict[str, Any] = {"first": first, "window": 4, "scale": 0.25}
    o = attend_rows(*ours[:3], ours[3] if selection is not None else None, selection, **options)
    rows = DenseRows(exact[3]) if selection is not None else None
    expected, _ = reference_attention(*exact[:3], rows=rows, selection=selection, mass_every=0, **options)
    torch.testing.assert_close(o.double(), expected, rtol=1e-5, atol=2e-6)
    g = torch.randn_like(o)
    wanted = torch.autograd.grad(expected, exact, g.double())
    for one, other in zip(torch.autograd.grad(o, ours, g), wanted, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-5)


def test_bf16_rows_train_too() -> None:
    inputs = [torch.randn(x, device=DEVICE) for x in ((1, 9, 2, 16), (1, 9, 16), (2,), (1, 4, 16))]
    leaves = [x.bfloat16().requires_grad_() if i != 2 else x.requires_grad_() for i, x in enumerate(inputs)]
    exact = [x.detach().float().requires_grad_() for x in leaves]
    options: dict[str, Any] = {"first": 0, "window": 4, "scale": 0.25}
    o = attend_rows(*leaves, Causal(2), **options)
    entries = DenseRows(exact[3])
    expected, _ = reference_attention(*exact[:3], rows=entries, selection=Causal(2), mass_every=0, **options)
    assert o.dtype == torch.bfloat16
    g = torch.randn_like(expected).bfloat16()
    grads = torch.autograd.grad(o, leaves, g)
    assert [x.dtype for x in grads] == [x.dtype for x in leaves]
    for one, other in zip(grads, torch.autograd.grad(expected, exact, g.float()), strict=True):
        assert (one.float() - other).norm() <= 2e-2 * other.norm()


@pytest.mark.parametrize(
    "selection",
    [
        None, Causal(3), Causal(4, torch.tensor([0.5, -1.0], device=DEVICE)), picked(2, 11, 6, 4),
        marked(2, 11, 6, first=9, ratio=2),
    ],
)  # fmt: skip
def test_mass_of_every_nth_query_while_training(selection: Selection | None) -> None:
    q, near, sink, far = (torch.randn(x, device=DEVICE) for x in ((2, 11, 3, 16), (2, 14, 16), (3,), (2, 6, 16)))
    entries = None if selection is None else DenseRows(far.requires_grad_())
    for every in (1, 3):
        call: dict[str, Any] = {"first": 9, "window": 4, "scale": 0.25, "rows": entries, "selection": selection}
        o, mass = training.attend(q, near, sink, mass_every=every, **call)
        expected, wanted = reference_attention(q, near, sink, mass_every=every, **call)
        torch.testing.assert_close(o, expected, rtol=1e-5, atol=2e-6)
        if wanted is None:
            assert mass is None
            continue
        assert mass is not None
        assert not mass.requires_grad
        torch.testing.assert_close(mass, wanted, rtol=1e-5, atol=2e-6)


def test_which_training_calls_fit() -> None:
    q, seen = torch.zeros(1, 3, 2, 16), torch.zeros(1, 3, 4, dtype=torch.bool)
    assert all(training.fits(q.to(dtype), Causal(2)) for dtype in (torch.float32, torch.bfloat16))
    assert training.fits(q, None)
    assert training.fits(q, Marked(torch.zeros(1, 3, 1, dtype=torch.int64), 4, 2))
    assert not training.fits(q.double(), None)
    assert not training.fits(q, Masked(seen))
    assert not training.fits(torch.zeros(1, 3, 2, 513), None)


def test_wrong_training_input_is_named() -> None:
    q, near, sink, far = (torch.zeros(x, device=DEVICE) for x in ((2, 3, 2, 16), (2, 3, 16), (2,), (2, 4, 16)))
    options: dict[str, Any] = {"first": 0, "window": 4, "scale": 1.0}
    seen = torch.zeros(2, 3, 4, dtype=torch.bool, device=DEVICE)
    offset = torch.zeros(2, device=DEVICE, requires_grad=True)
    for given, message in (
        ((q.double(), near, sink, None, None), "q is torch.float64"),
        ((q, near[:, :2], sink, None, None), "window_rows is"),
        ((q, near, sink[:1], None, None), "sink is"),
        ((q, near, sink, far[:1], Causal(2)), "rows is"),
        ((q, near, sink, far, Masked(seen)), "selection is Masked"),
        ((q, near, sink, far, Picked(seen[:, :2].long())), "selection.index is"),
        ((q, near, sink, far, Marked(torch.zeros(2, 3, 1, dtype=torch.int64), 5, 2)), "selection marks 5 entries"),
        ((q, near, sink, far, Causal(2, offset)), "selection.offset requires a gradient"),
    ):
        with pytest.raises(ValueError, match=message):
            attend_rows(*given, **options)
    with pytest.raises(ValueError, match="window is 0"):
        attend_rows(q, near, sink, None, None, first=0, window=0, scale=1.0)
