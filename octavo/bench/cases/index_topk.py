"""Index scores and exact top-k over paged keys: decoding, verification, chunks of reading.

Covers: `topk` over FP8 and FP4 keys (Flash: 64 heads of 128 channels, 512 picks of a 4:1 store), queries in BF16 and in
FP8, and tiny cases of every format. The reference scores all entries of some queries in FP32; the error is by how much
the worst pick falls short of the k-th best score. Does not cover: the CPU (`cpu`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from octavo.bench.case import Case, Result, Work
from octavo.kernels.index_topk.triton import plan, products_of, put_scores, row_bytes, scratch, topk
from octavo.kernels.paged import PAGE_TOKENS, Format, PagedStore, Places
from octavo.kernels.quant import decode_index_fp8, decode_rows_fp4, encode_index_fp8, encode_rows_fp4

_RATIO = 4
_ROWS = 1 << 18  # rows encoded at once
_PRODUCTS = 1 << 29  # products of queries and keys that plain torch holds at once
_CHECKED = 8  # queries of a large case that are compared
_LOWEST = -(2**31)


def cases() -> list[Case]:
    """Tiny cases of every format; full ones for an H100."""
    tiny = partial(_case, size="tiny", I=4, J=32, k=16, dtype=torch.float32)
    made = [
        tiny("fp32, two sequences", [500, 0], [3, 5], form="fp32"),
        tiny("bf16, one level", [180], [2], form="bf16"),
        tiny("fp8, short and long", [700, 62, 40], [1, 2, 1], form="fp8"),
        tiny("fp4", [1023], [2], form="fp4"),
        tiny("all visible", [40], [4], form="fp4"),
    ]
    full = partial(_case, size="full", I=64, J=128, k=512, dtype=torch.bfloat16)
    for batch in (1, 8, 32, 64):
        for context in (8192, 131072, 1048576):
            name = f"decode, batch {batch}, {context // 1024}K"
            made.append(full(name, [context - 1] * batch, [1] * batch, form="fp8"))
    made.append(full("decode, batch 1, 1024K, fp4", [1048575], [1], form="fp4"))
    made.append(full("decode, batch 32, 128K, fp4", [131071] * 32, [1] * 32, form="fp4"))
    made.append(full("verify 4, batch 8, 128K", [131068] * 8, [4] * 8, form="fp8"))
    for end in (8192, 131072, 1048576):
        name = f"chunk 4096 to {end // 1024}K"
        headline = 4 if end == 1048576 else None
        made.append(full(name, [end - 4096], [4096], form="fp8", headline=headline))
        made.append(full(f"{name}, fp4", [end - 4096], [4096], form="fp4"))
        made.append(full(f"{name}, fp8 queries", [end - 4096], [4096], form="fp8", fp8=True))
    return made


def _case(
    name: str, starts: Sequence[int], counts: Sequence[int], *, size: Any, I: int, J: int, k: int, form: Format,
    dtype: torch.dtype, fp8: bool = False, headline: int | None = None,
) -> Case:  # fmt: skip
    """The next counts[b] tokens of sequences of starts[b] tokens."""
    seen = [(p + 1) // _RATIO for s, n in zip(starts, counts, strict=True) for p in range(s, s + n)]
    row = row_bytes(PagedStore(torch.empty(0), torch.empty(0), _RATIO, J, form))
    # A key is read once by a step, however many of its queries see it; nothing is read where all entries are picked.
    ends = [(s + n) // _RATIO for s, n in zip(starts, counts, strict=True)]
    keys, width = sum(end for end in ends if end > k), torch.finfo(dtype).bits // 8
    T, pairs = len(seen), sum(n for n in seen if n > k)
    work = Work(
        flops=(2.0 * J + 2.0) * I * pairs, bytes=float(keys * row + T * (I * (J * width + 4) + 4 * k)),
        unit="fp8" if fp8 else "bf16" if dtype == torch.bfloat16 else "fp32",
    )  # fmt: skip
    peers: dict[str, Callable[..., Any]] = {}
    if size == "full":
        peers["our scores stored, torch.topk"] = _stored
        if T * max(seen) <= 1 << 28:
            peers["scores and topk, torch"] = _plain
    return Case(
        op="index_topk", name=name, size=size, run=partial(_run, fp8=fp8), reference=_reference, work=work,
        inputs=partial(_inputs, starts=list(starts), counts=list(counts), I=I, J=J, k=k, form=form, dtype=dtype),
        tolerance=2e-2 if fp8 else 1e-5, error=_error, peers=peers, headline=headline,
    )  # fmt: skip


def _inputs(
    device: torch.device, *, starts: list[int], counts: list[int], I: int, J: int, k: int, form: Format,
    dtype: torch.dtype,
) -> dict[str, Any]:  # fmt: skip
    gen = torch.Generator(device).manual_seed(0)
    places = Places.of(starts, counts, device)
    B, T, per_page = len(starts), sum(counts), PAGE_TOKENS // _RATIO
    pages = -(-max(s + n for s, n in zip(starts, counts, strict=True)) // PAGE_TOKENS)
    table = torch.randperm(B * pages, generator=gen, device=device).view(B, pages).int()
    parts = []
    for start in range(0, B * pages * per_page, _ROWS):
        n = min(_ROWS, B * pages * per_page - start)
        parts.append(_encoded(torch.randn(n, J, generator=gen, device=device), form))
    return {
        "q": torch.randn(T, I, J, generator=gen, device=device).to(dtype),
        "w": torch.randn(T, I, generator=gen, device=device) * (I * J) ** -0.5,
        "store": PagedStore(torch.cat(parts), table, _RATIO, J, form),
        "places": places,
        "k": k,
    }


def _encoded(x: Tensor, form: Format) -> Tensor:
    if form == "fp8":
        return encode_index_fp8(x)
    if form == "fp4":
        return encode_rows_fp4(x)
    return (x.bfloat16() if form == "bf16" else x).view(torch.uint8)


def _keys(store: PagedStore, b: int) -> Tensor:
    """All entries of a sequence, FP32 [C, J]."""
    page = torch.arange(store.per_page, device=store.rows.device)
    rows = store.rows[(store.table[b].long().unsqueeze(1) * store.per_page + page).flatten()]
    if store.format == "fp8":
        return decode_index_fp8(rows, store.width)
    if store.format == "fp4":
        return decode_rows_fp4(rows, store.width)
    return rows.view(torch.bfloat16 if store.format == "bf16" else torch.float32).float()


def _run(q: Tensor, w: Tensor, store: PagedStore, places: Places, k: int, *, fp8: bool) -> Tensor:
    return topk(q, w, store, places, k=k, fp8=fp8)


def _checked(T: int) -> list[int]:
    return sorted({i * (T - 1) // (_CHECKED - 1) for i in range(_CHECKED)})


def _scores(q: Tensor, w: Tensor, keys: Tensor, position: Tensor) -> Tensor:
    """Scores [n, C] of queries of one sequence, -inf for what they do not see; products in q's dtype."""
    dots = (q.flatten(0, 1) @ keys.to(q.dtype).T).relu_().view(*q.shape[:2], -1)
    scores = torch.bmm(w.to(q.dtype).unsqueeze(1), dots).squeeze(1).float()
    seen = (position + 1).div(_RATIO, rounding_mode="floor").unsqueeze(1)
    return scores.masked_fill_(torch.arange(len(keys), device=q.device) >= seen, -torch.inf)


def _reference(q: Tensor, w: Tensor, store: PagedStore, places: Places, k: int) -> Tensor:
    """FP32 scores [n, C] of the checked queries."""
    some = _checked(len(q))
    by_query = []
    for t, b in zip(some, places.sequence[some].tolist(), strict=True):
        one = slice(t, t + 1)
        by_query.append(_scores(q[one].float(), w[one].float(), _keys(store, b), places.position[one]))
    return torch.cat(by_query)


def _error(picks: Result, scores: Result) -> float:
    """The largest shortfall of a pick behind the k-th best score, in shares of the largest score; infinity for picks
    that are no set of as many visible entries as there should be."""
    assert isinstance(picks, Tensor)
    assert isinstance(scores, Tensor)
    worst = 0.0
    for listed, score in zip(picks[_checked(len(picks))], scores, strict=True):
        seen = score[score > -torch.inf]
        count = min(len(listed), len(seen))
        chosen = listed[listed >= 0].long()
        if len(chosen) != count or len(chosen.unique()) != count or bool((chosen >= len(seen)).any()):
            return float("inf")
        if count:
            bar = seen.topk(count).values[-1]
            worst = max(worst, float((bar - score[chosen].min()) / seen.abs().max().clamp_min(1e-30)))
    return worst


def _stored(q: Tensor, w: Tensor, store: PagedStore, places: Places, k: int) -> Tensor:
    """The same scores stored for all entries, and torch's selection."""
    C, picks = store.table.shape[1] * store.per_page, []
    products = products_of(q, store)
    sizes = plan(len(q), q.shape[1], C, k, sequences=len(store.table), products=products)
    turn = min(sizes.turn, len(q))
    keys, peaks = scratch(turn, C, sizes, q.device)
    for lo in range(0, len(q), turn):
        some = slice(lo, min(lo + turn, len(q)))
        place = Places(places.sequence[some], places.position[some])
        keys.fill_(_LOWEST)
        put_scores(q[some], w[some], store, place, keys, peaks, k=k, sizes=sizes, products=products)
        picks.append(keys[: len(q[some])].topk(min(k, C), dim=1, sorted=False).indices)
    return torch.cat(picks)


def _plain(q: Tensor, w: Tensor, store: PagedStore, places: Places, k: int) -> Tensor:
    """Keys decoded, scores of all entries and the selection by torch, some queries of a sequence at a time."""
    counts = torch.bincount(places.sequence, minlength=len(store.table)).tolist()
    picks, start = [], 0
    for b, count in enumerate(counts):
        keys = _keys(store, b).to(q.dtype)
        step = max(1, _PRODUCTS // (q.shape[1] * len(keys)))
        for lo in range(start, start + count, step):
            some = slice(lo, min(lo + step, start + count))
            scores = _scores(q[some], w[some], keys, places.position[some])
            picks.append(scores.topk(min(k, len(keys)), dim=1, sorted=False).indices)
        start += count
    return torch.cat(picks)
