"""Top-k over paged keys against a full stable sort; scores are whole numbers, so that ties are many and exact."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton")

from octavo.kernels.index_topk.ref import reference_topk
from octavo.kernels.index_topk.triton import Plan, plan, topk
from octavo.kernels.index_topk.triton_recast import recast
from octavo.kernels.index_topk.triton_training import marked_topk
from octavo.kernels.paged import Format, PagedStore, Places
from octavo.kernels.quant import decode_index_fp8, decode_rows_fp4, encode_index_fp8, encode_rows_fp4
from octavo.kernels.rows import DenseRows

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
FORMATS: list[Format] = ["fp32", "bf16", "fp8", "fp4"]
I, J, RATIO, PER_PAGE = 4, 32, 4, 64


def stored(keys: Tensor, form: Format) -> PagedStore:
    """Keys [B, C, J] in pages that lie in no order, those of sequences mixed."""
    B, C, _ = keys.shape
    pages = C // PER_PAGE
    table = torch.randperm(B * pages, device=DEVICE).view(B, pages)
    rows = torch.empty(B * pages, PER_PAGE, J, device=DEVICE)
    rows[table.flatten()] = keys.reshape(B * pages, PER_PAGE, J)
    flat = rows.view(-1, J)
    if form == "fp8":
        encoded = encode_index_fp8(flat)
    elif form == "fp4":
        encoded = encode_rows_fp4(flat)
    else:
        encoded = (flat.bfloat16() if form == "bf16" else flat).view(torch.uint8)
    return PagedStore(encoded, table.int(), RATIO, J, form)


def numbers(*shape: int, most: int = 2) -> Tensor:
    return torch.randint(-most, most + 1, shape, device=DEVICE).float()


def wanted(q: Tensor, w: Tensor, keys: Tensor, starts: list[int], counts: list[int], k: int) -> Tensor:
    """The reference of every sequence for itself, ascending, -1 behind."""
    parts, at = [], 0
    for b, (start, n) in enumerate(zip(starts, counts, strict=True)):
        some = slice(at, at + n)
        listed = reference_topk(q[None, some], w[None, some], DenseRows(keys[b : b + 1]), first=start, ratio=RATIO, k=k)
        parts.append(listed[0].masked_fill(listed[0] < 0, 1 << 40).sort(-1).values)
        at += n
    picks = torch.cat(parts)
    return picks.masked_fill(picks == 1 << 40, -1).int()


@pytest.mark.parametrize("form", FORMATS)
def test_sequences_of_every_length_equal_a_sort(form: Format) -> None:
    starts, counts = [1000, 0, 333, 57], [6, 7, 1, 4]
    keys, q, w = numbers(4, 256, J), numbers(18, I, J), numbers(18, I)
    got = topk(q, w, stored(keys, form), Places.of(starts, counts, DEVICE), k=16)
    assert torch.equal(got, wanted(q, w, keys, starts, counts, 16))


@pytest.mark.parametrize("k", [1, 5, 32])
@pytest.mark.parametrize("group", [1, 2, 8, 32])
def test_every_plan_gives_the_same(group: int, k: int) -> None:
    starts, counts = [1016, 700], [3, 2]
    keys, q, w = numbers(2, 256, J), numbers(5, I, J, most=1), numbers(5, I, most=1)
    sizes = Plan(queries=4, keys=32, group=group, tiles=3, turn=4)
    got = topk(q, w, stored(keys, "fp8"), Places.of(starts, counts, DEVICE), k=k, sizes=sizes)
    assert torch.equal(got, wanted(q, w, keys, starts, counts, k))


@pytest.mark.parametrize("order", ["together", "apart", "equal", "falling", "rising", "below zero"])
def test_where_the_best_entries_lie_does_not_matter(order: str) -> None:
    C, k = 512, 16
    e = torch.arange(C, device=DEVICE)
    level = {
        "together": (e // k == 3).float(),
        "apart": (e % (C // k) == 7).float(),
        "equal": torch.ones(C, device=DEVICE),
        "falling": (C - e).float(),
        "rising": e.float(),
        "below zero": (e % 50).float(),
    }[order]
    keys = torch.zeros(1, C, J, device=DEVICE)
    keys[0, :, 0] = level
    q, w = torch.zeros(2, I, J, device=DEVICE), torch.zeros(2, I, device=DEVICE)
    q[:, 1, 0], w[:, 1] = 1, -1.0 if order == "below zero" else 1.0
    sizes = replace(plan(2, I, C, k, sequences=1, products="fp32"), group=8)
    got = topk(q, w, stored(keys, "fp32"), Places.of([2045], [2], DEVICE), k=k, sizes=sizes)
    assert torch.equal(got, wanted(q, w, keys, [2045], [2], k))


def test_zero_and_minus_zero_are_a_tie() -> None:
    keys = torch.zeros(1, 64, J, device=DEVICE)
    q, w = torch.ones(1, I, J, device=DEVICE), torch.full((1, I), -1.0, device=DEVICE)
    keys[0, ::2] = -1.0  # relu gives 0, the weight -0
    got = topk(q, w, stored(keys, "fp32"), Places.of([255], [1], DEVICE), k=5)
    assert got.tolist() == [[0, 1, 2, 3, 4]]


def test_a_score_that_is_no_number_ranks_last() -> None:
    keys = -torch.ones(1, 64, J, device=DEVICE)
    q, w = torch.full((1, I, J), -1.0, device=DEVICE), torch.full((1, I), -1.0, device=DEVICE)
    store = stored(keys, "fp8")
    store.rows[store.table[0, 0].long() * PER_PAGE + 2, J:] = torch.tensor([0, 0, 0xC0, 0x7F], dtype=torch.uint8)
    got = topk(q, w, store, Places.of([255], [1], DEVICE), k=63)
    assert got.tolist() == [[e for e in range(64) if e != 2]]


def test_padding_rows_have_no_picks() -> None:
    keys, q, w = numbers(1, 128, J), numbers(4, I, J), numbers(4, I)
    places = Places.of([500], [4], DEVICE)
    some = Places(places.sequence, torch.tensor([500, 501, -1, -1], dtype=torch.int32, device=DEVICE))
    got = topk(q, w, stored(keys, "fp8"), some, k=8)
    assert torch.equal(got[:2], wanted(q[:2], w[:2], keys, [500], [2], 8))
    assert (got[2:] == -1).all()


def test_a_table_narrower_than_the_positions_bounds_the_entries() -> None:
    keys, q, w = numbers(1, 64, J), numbers(1, I, J), numbers(1, I)
    got = topk(q, w, stored(keys, "fp8"), Places.of([4000], [1], DEVICE), k=8)
    assert torch.equal(got, wanted(q, w, keys, [255], [1], 8))


@pytest.mark.parametrize("k", [63, 64, 65])
def test_few_entries_are_all_listed(k: int) -> None:
    keys, q, w = numbers(1, 64, J), numbers(3, I, J), numbers(3, I)
    got = topk(q, w, stored(keys, "fp4"), Places.of([3], [3], DEVICE), k=k)
    assert [row[:2] for row in got.tolist()] == [[0, -1]] * 3
    assert (got[:, 2:] == -1).all()


def test_nothing_stored_and_nothing_asked() -> None:
    q, w = numbers(2, I, J), numbers(2, I)
    empty = PagedStore(
        torch.empty(0, 4 * J, dtype=torch.uint8, device=DEVICE),
        torch.empty(2, 0, dtype=torch.int32, device=DEVICE), RATIO, J, "fp32",
    )  # fmt: skip
    assert topk(q, w, empty, Places.of([9, 9], [1, 1], DEVICE), k=3).tolist() == [[-1] * 3] * 2
    store = stored(numbers(1, 64, J), "fp32")
    assert topk(q[:0], w[:0], store, Places.of([0], [0], DEVICE), k=3).shape == (0, 3)


@pytest.mark.parametrize("heads", [1, 3, 16])
def test_any_number_of_heads(heads: int) -> None:
    keys, q, w = numbers(2, 128, J), numbers(5, heads, J), numbers(5, heads)
    got = topk(q, w, stored(keys, "fp4"), Places.of([400, 490], [3, 2], DEVICE), k=10)
    assert torch.equal(got, wanted(q, w, keys, [400, 490], [3, 2], 10))


@pytest.mark.skipif(DEVICE == "cpu", reason="FP16 and FP8 products need a GPU")
@pytest.mark.parametrize(("form", "fp8"), [("bf16", False), ("fp8", False), ("fp8", True), ("fp4", False)])
@pytest.mark.parametrize("count", [1, 9])
def test_products_of_the_tensor_cores(form: Format, fp8: bool, count: int) -> None:
    starts, counts = [1000, 90, 2031], [count] * 3
    keys, q, w = numbers(3, 512, J), numbers(3 * count, I, J), numbers(3 * count, I)
    q[:, 0] *= 2.0**40  # a head may have any size
    w[:, 0] *= 2.0**-40
    got = topk(q.bfloat16(), w, stored(keys, form), Places.of(starts, counts, DEVICE), k=16, fp8=fp8)
    assert torch.equal(got, wanted(q, w, keys, starts, counts, 16))


def test_sizes_follow_from_shapes_and_stay_bounded() -> None:
    for T, C in ((1, 262144), (64, 262144), (4096, 262144), (4096, 2048)):
        made = plan(T, 64, C, 512, sequences=min(T, 64), products="fp16")
        assert made.turn * C * 4 <= 1 << 29
        tiles = C // made.keys
        assert -(-min(T, made.turn) // made.queries) * -(-tiles // made.tiles) >= (264 if C > 4096 else 1)
        assert max(512 * made.group, C // made.group) <= 1 << 15
    with pytest.raises(ValueError, match="the table has 33554432 entries; with k = 512"):
        plan(1, 64, 1 << 25, 512, sequences=1, products="fp16")


def test_what_does_not_fit_is_refused() -> None:
    store, places = stored(numbers(1, 64, J), "fp8"), Places.of([9], [2], DEVICE)
    q, w = numbers(2, I, J), numbers(2, I)
    with pytest.raises(ValueError, match="q is torch.float16"):
        topk(q.half(), w, store, places, k=3)
    with pytest.raises(ValueError, match=r"of width 32; q has width 64, and fp8 rows of width 32 have 36 bytes"):
        topk(numbers(2, I, 64), w, store, places, k=3)
    with pytest.raises(ValueError, match=r"w is \[2, 3\]; it must be \[2, 4\]"):
        topk(q, w[:, :3], store, places, k=3)
    with pytest.raises(ValueError, match=r"places.sequence is torch.int32 \[1\]"):
        topk(q, w, store, Places.of([9], [1], DEVICE), k=3)
    with pytest.raises(ValueError, match="k is 0"):
        topk(q, w, store, places, k=0)
    with pytest.raises(ValueError, match="fp8 is set for torch.float32 queries"):
        topk(q, w, store, places, k=3, fp8=True)
    with pytest.raises(ValueError, match="width is 48; FP4 keys"):
        topk(numbers(2, I, 48), w, PagedStore(store.rows, store.table, RATIO, 48, "fp4"), places, k=3)


def test_recast_keys_are_the_same_numbers_in_order() -> None:
    keys = numbers(2, 192, J, most=6) * torch.logspace(-3, 3, J, base=2.0, device=DEVICE).round()
    store = stored(keys, "fp4")
    wide = recast(store)
    assert torch.equal(wide.table.flatten(), torch.arange(6, device=DEVICE, dtype=torch.int32))
    slots = (store.table.long()[..., None] * PER_PAGE + torch.arange(PER_PAGE, device=DEVICE)).flatten()
    assert torch.equal(decode_index_fp8(wide.rows, J), decode_rows_fp4(store.rows[slots], J))


def test_a_long_chunk_over_fp4_keys_picks_as_single_queries_do(monkeypatch: pytest.MonkeyPatch) -> None:
    keys, q, w = numbers(1, 128, J), numbers(20, I, J), numbers(20, I)
    store, places = stored(keys, "fp4"), Places.of([492], [20], DEVICE)
    few = topk(q, w, store, places, k=12)
    monkeypatch.setattr("octavo.kernels.index_topk.triton._MANY", 20)  # what counts as long, so that it is short here
    assert torch.equal(topk(q, w, store, places, k=12), few)


@pytest.mark.parametrize(("S", "C", "first", "k"), [(70, 20, 0, 4), (9, 131, 600, 16), (5, 64, 300, 64), (3, 9, 40, 1)])
def test_marks_while_training_are_the_references_choice(S: int, C: int, first: int, k: int) -> None:
    q, w, keys = numbers(2, S, I, J), numbers(2, S, I), DenseRows(numbers(2, C, J))
    marked = marked_topk(q, w, keys, first=first, ratio=RATIO, k=k)
    listed = reference_topk(q, w, keys, first=first, ratio=RATIO, k=k)
    place = listed.masked_fill(listed < 0, C)
    seen = torch.zeros(2, S, C + 1, dtype=torch.bool, device=DEVICE).scatter(2, place, True)[..., :C]
    assert (marked.count, marked.ratio) == (C, RATIO)
    assert torch.equal(marked.of(slice(None)), seen)


def test_marks_of_real_scores_hold_what_a_sort_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    q, w, keys = torch.randn(1, 130, I, J, device=DEVICE), torch.randn(1, 130, I, device=DEVICE), numbers(1, 100, J)
    monkeypatch.setattr("octavo.kernels.index_topk.triton_training._ELEMENTS", 6_400)  # in three parts
    marked = marked_topk(q, w, DenseRows(keys), first=220, ratio=RATIO, k=7).of(slice(None))
    listed = reference_topk(q, w, DenseRows(keys), first=220, ratio=RATIO, k=7)
    assert (marked.sum(-1) == 7).all()
    assert (marked.gather(2, listed).float().mean()) > 0.999  # scores that differ in their last bit may change places
