"""Groups closed into entries: decoding steps in which every sequence closes one, chunks of reading.

Covers: `compress` at the widths of Flash (main entries of 512 channels at 4:1 and 128:1 in FP8 and FP4, index keys of
128 in FP8 and FP4), and tiny cases of every format. The reference gathers the rows of some entries and makes them in
FP32 one operation after the other; bytes are compared as decoded values. Does not cover: the projections in front.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from octavo.bench.case import Case, Result, Work, relative_l2
from octavo.kernels.compress.triton import Layout, compress
from octavo.kernels.hadamard import hadamard
from octavo.kernels.paged import PAGE_TOKENS, Format, PagedStore, Places, Ring
from octavo.kernels.quant import (
    decode_index_fp8,
    decode_main_fp4,
    decode_rows_fp4,
    decode_rows_fp8,
    encode_index_fp8,
    encode_main_fp4,
    encode_rows_fp4,
    encode_rows_fp8,
)
from octavo.kernels.rope import inverse_frequencies, norm_rotate, rope_table

_EPS = 1e-6
_CHECKED = 64  # entries of a large case that are compared
_LAYOUTS: dict[Format, tuple[Layout, Layout]] = {  # of entries and of index keys
    "fp32": ("fp32", "fp32"), "bf16": ("bf16", "bf16"), "fp8": ("main fp8", "index fp8"),
    "fp4": ("main fp4", "index fp4"),
}  # fmt: skip
# A value at the border of two codes may fall either way; one step of the format is far more than this.
_TOLERANCE = {"fp32": 1e-5, "bf16": 1e-4, "fp8": 2e-3, "fp4": 1e-2}


def cases() -> list[Case]:
    """Tiny cases of every format; full ones for an H100."""
    tiny = partial(_case, size="tiny", ring=16)
    made = [
        tiny("main fp32", [0, 5], [9, 4], K=32, P=16, ratio=4, form="fp32"),
        tiny("main bf16", [30], [7], K=32, P=8, ratio=4, form="bf16"),
        tiny("main fp8", [3, 7], [1, 1], K=192, P=64, ratio=4, form="fp8"),
        tiny("main fp4", [3, 7], [1, 1], K=192, P=64, ratio=4, form="fp4"),
        tiny("main fp4, odd groups", [7], [4], K=56, P=8, ratio=4, form="fp4"),
        tiny("index fp8", [7, 8], [1, 4], K=32, P=16, ratio=4, form="fp8", index=True),
        tiny("index fp4", [1019], [5], K=64, P=32, ratio=4, form="fp4", index=True),
        tiny("main 16:1", [15], [17], K=24, P=8, ratio=16, form="fp8", ring=64),
    ]
    full = partial(_case, size="full", P=64)
    for batch in (1, 8, 32, 64):
        at, one, name = [131071] * batch, [1] * batch, f"decode, batch {batch}"
        made.append(full(f"{name}, main 4:1", at, one, K=512, ratio=4, form="fp8", ring=16))
        made.append(full(f"{name}, index fp4", at, one, K=128, ratio=4, form="fp4", index=True, ring=16))
        made.append(full(f"{name}, main 128:1", at, one, K=512, ratio=128, form="fp8", ring=256))
    chunk = partial(full, starts=[126976], counts=[4096])
    made.append(chunk("chunk 4096, main 4:1", K=512, ratio=4, form="fp8", ring=16))
    made.append(chunk("chunk 4096, main 4:1 in fp4", K=512, ratio=4, form="fp4", ring=16))
    made.append(chunk("chunk 4096, index fp8", K=128, ratio=4, form="fp8", index=True, ring=16))
    made.append(chunk("chunk 4096, index fp4", K=128, ratio=4, form="fp4", index=True, ring=16))
    made.append(chunk("chunk 4096, main 128:1", K=512, ratio=128, form="fp8", ring=256))
    return made


def _case(
    name: str, starts: Sequence[int], counts: Sequence[int], *, size: Any, K: int, P: int, ratio: int, form: Format,
    ring: int, index: bool = False,
) -> Case:  # fmt: skip
    """The next counts[b] tokens of sequences of starts[b] tokens; ratio 4 overlaps."""
    ends = zip(starts, counts, strict=True)
    tokens, made = sum(counts), sum((s + n) // ratio - s // ratio for s, n in ends)
    W, span = (2 * K, 2 * ratio) if ratio == 4 else (K, ratio)
    row = _encoded(torch.zeros(1, K), form, P, index).shape[1]
    layout = _LAYOUTS[form][index]
    # Raw rows once, of earlier rows what an entry needs, entries, and the rows that are kept.
    old = min(made * span * 2 * K, len(starts) * span * 2 * W)
    kept = sum(min(n, ring) for n in counts) * 2 * W
    work = Work(flops=8.0 * made * span * K, bytes=4.0 * (tokens * 2 * W + old + kept) + made * row, unit="fp32")
    return Case(
        op="compress", name=name, size=size, run=_run, reference=_reference, work=work, tolerance=_TOLERANCE[form],
        error=partial(_error, layout=layout, K=K, P=P), peers={} if size == "tiny" else {"gathered, torch": _plain},
        inputs=partial(_inputs, starts=list(starts), counts=list(counts), K=K, P=P, ratio=ratio, form=form, ring=ring,
                       index=index),
    )  # fmt: skip


def _inputs(
    device: torch.device, *, starts: list[int], counts: list[int], K: int, P: int, ratio: int, form: Format, ring: int,
    index: bool,
) -> dict[str, Any]:  # fmt: skip
    gen = torch.Generator(device).manual_seed(0)
    draw = partial(torch.randn, generator=gen, device=device)
    B, W, per_page = len(starts), 2 * K if ratio == 4 else K, PAGE_TOKENS // ratio
    pages = -(-max(s + n for s, n in zip(starts, counts, strict=True)) // PAGE_TOKENS)
    table = torch.randperm(B * pages, generator=gen, device=device).view(B, pages).int()
    row = _encoded(torch.zeros(1, K), form, P, index).shape[1]
    rows = torch.zeros(B * pages * per_page, row, dtype=torch.uint8, device=device)
    past = draw(B, ring, 2 * W)
    return {
        "raw": draw(sum(counts), 2 * W),
        "bias": draw(ratio, W),
        "partial": Ring(past.clone()),
        "past": past,  # as the ring is before the step
        "weight": torch.rand(K, generator=gen, device=device) + 0.5,
        "freq": inverse_frequencies(base=160000.0, dims=P).to(device),
        "store": PagedStore(rows, table, ratio, K, form, 0 if index else P),
        "places": Places.of(starts, counts, device),
        "most": max(counts),
    }


def _encoded(x: Tensor, form: Format, P: int, index: bool) -> Tensor:
    if form == "fp8":
        return encode_index_fp8(x) if index else encode_rows_fp8(x, P)
    if form == "fp4":
        return encode_rows_fp4(x) if index else encode_main_fp4(x, P)
    return (x.bfloat16() if form == "bf16" else x).view(torch.uint8)


def _decoded(rows: Tensor, layout: Layout, K: int, P: int) -> Tensor:
    if layout == "main fp8":
        return decode_rows_fp8(rows, K, P)
    if layout == "index fp8":
        return decode_index_fp8(rows, K)
    if layout == "main fp4":
        return decode_main_fp4(rows, K, P)
    if layout == "index fp4":
        return decode_rows_fp4(rows, K)
    return rows.contiguous().view(torch.bfloat16 if layout == "bf16" else torch.float32).float()


def _is_index(store: PagedStore) -> bool:
    return store.rope == 0


def _run(
    raw: Tensor, bias: Tensor, partial: Ring, past: Tensor, weight: Tensor, freq: Tensor, store: PagedStore,
    places: Places, most: int,
) -> tuple[Tensor, ...]:  # fmt: skip
    compress(
        raw, bias, partial, weight, freq, store, places, overlap=store.ratio == 4, eps=_EPS, hadamard=_is_index(store),
        most=most,
    )  # fmt: skip
    return store.rows, partial.rows


def _slots(store: PagedStore, places: Places, closing: Tensor) -> Tensor:
    """Rows of the store that packed tokens `closing` fill."""
    entry = places.position[closing].long() // store.ratio
    page = store.table[places.sequence[closing].long(), entry // store.per_page].long()
    return page * store.per_page + entry % store.per_page


def _entries(
    raw: Tensor, bias: Tensor, past: Tensor, weight: Tensor, freq: Tensor, store: PagedStore, places: Places,
    closing: Tensor,
) -> Tensor:  # fmt: skip
    """Entries [n, K] that packed tokens `closing` complete, in FP32."""
    ratio, K, overlap = store.ratio, store.width, store.ratio == 4
    span, W, R = (2 if overlap else 1) * ratio, bias.shape[1], past.shape[1]
    back = torch.arange(span - 1, -1, -1, device=raw.device)
    b, p = places.sequence[closing].long(), places.position[closing].long()
    token, at = p.unsqueeze(1) - back, (closing.unsqueeze(1) - back).clamp_min(0)
    here = (places.sequence[at] == b.unsqueeze(1)) & (places.position[at] == token)
    rows = torch.where(here.unsqueeze(2), raw[at], past[b.unsqueeze(1), token % R])
    score = (rows[..., W:] + bias[token % ratio]).masked_fill((token < 0).unsqueeze(2), -torch.inf)
    value = rows[..., :W].masked_fill((token < 0).unsqueeze(2), 0)
    if overlap:
        value, score = (torch.cat((x[:, :ratio, :K], x[:, ratio:, K:]), dim=1) for x in (value, score))
    made = (score.softmax(1) * value).sum(1)
    turned = norm_rotate(made, weight, *rope_table(p - (ratio - 1), freq), eps=_EPS)
    return hadamard(turned) if _is_index(store) else turned


def _reference(
    raw: Tensor, bias: Tensor, partial: Ring, past: Tensor, weight: Tensor, freq: Tensor, store: PagedStore,
    places: Places, most: int,
) -> tuple[Tensor, ...]:  # fmt: skip
    """Bytes of the checked entries as torch makes and encodes them, their rows in the store, and the ring.

    A chunk longer than the ring takes slots that its first two entries need, so that a second run of the same step
    makes others: they are not compared.
    """
    R, span = past.shape[1], 2 * store.ratio if store.ratio == 4 else store.ratio
    closing = ((places.position + 1) % store.ratio == 0).nonzero().flatten()
    if most > R - span + 1:
        closing = closing[2:]
    closing = closing[:: max(1, len(closing) // _CHECKED)]
    made = _entries(raw, bias, past, weight, freq, store, places, closing)
    b, p = places.sequence.long(), places.position.long()
    last = torch.zeros(len(past), dtype=torch.long, device=raw.device).scatter_reduce(0, b, p, "amax")
    stay, kept = p > last[b] - R, past.clone()
    kept[b[stay], p[stay] % R] = raw[stay]
    return _encoded(made, store.format, store.rope, _is_index(store)), _slots(store, places, closing), kept


def _error(got: Result, wanted: Result, *, layout: Layout, K: int, P: int) -> float:
    """Relative error of the checked entries; infinity if the ring differs."""
    rows, ring = got
    encoded, slots, kept = wanted
    if not torch.equal(ring, kept):
        return float("inf")
    return relative_l2(_decoded(rows[slots], layout, K, P), _decoded(encoded, layout, K, P))


def _plain(
    raw: Tensor, bias: Tensor, partial: Ring, past: Tensor, weight: Tensor, freq: Tensor, store: PagedStore,
    places: Places, most: int,
) -> Tensor:  # fmt: skip
    """All entries of the step gathered, made and encoded by torch."""
    closing = ((places.position + 1) % store.ratio == 0).nonzero().flatten()
    made = _entries(raw, bias, past, weight, freq, store, places, closing)
    store.rows[_slots(store, places, closing)] = _encoded(made, store.format, store.rope, _is_index(store))
    return store.rows
