"""Raw rows of tokens to bytes of entries on a GPU: pool, norm, rotation, transform and encoding in one launch.

Contract: `compress(raw [T, 2w], bias [ratio, w], partial, norm_weight [K], inv_freq [P/2], store, places, *, overlap,
eps, hadamard, most=None) -> None`. raw holds values and gate scores (FP32, without the position bias) of the packed
tokens; w = K, with overlap 2 K (`octavo.kernels.compress`). Every token with (position + 1) % ratio == 0 closes a
group: the pooled entry is normed, its last P channels are turned by the position of the group's first token, with
`hadamard` it is transformed, and it is written in the store's format to the place of entry position // ratio, if the
table has one. Rows of earlier steps are read from `partial` (FP32 [B, R, 2w], without the bias, R a power of two of at
least the rows of an entry: ratio, with overlap 2 ratio), and the last R rows of every sequence of this step are put
there. The tokens of a sequence must be consecutive. Padding rows do nothing. All arithmetic is FP32 with one rounding,
that of the format.

Order of reads and writes. A slot of a ring may be read for an entry while a later token takes it. That cannot be as
long as a sequence has at most R - span + 1 tokens in the step, span being the rows of an entry: then one launch does
both. `most` promises such a bound (1 in decoding, 1 + drafts in verification); without it T is the bound. Beyond, a
second launch puts the rows away after all entries are made.

Angles: position * inv_freq is formed in FP64 in the kernel, whole turns are taken off there, and sine and cosine are
FP32. Tables would be 64 MiB at 2^20 tokens of ratio 4 for what P/2 FP64 products an entry give.

Covers: checks and sizes. Does not cover: the kernels (`triton_entry`, `triton_rows`), gradients.
"""

# Triton's annotations do not know that constants arrive as plain numbers, nor launch options.
# pyright: reportArgumentType=false, reportCallIssue=false

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import triton
from torch import Tensor

from octavo.kernels.compress.triton_entry import close_kernel, keep_kernel
from octavo.kernels.paged import PagedStore, Places, Ring

Layout = Literal["fp32", "bf16", "main fp8", "main fp4", "index fp8", "index fp4"]
_SCALES = 64  # channels of a main entry's FP8 group
_SMALL = 32  # and of an FP4 group


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Rows that a program holds at once, and its warps."""

    rows: int
    warps: int


def sizes_of(K: int, span: int) -> Sizes:
    """The sizes for entries of K channels over `span` rows: about 2^13 values and as many scores at once."""
    rows = max(1, min(span, 8192 // triton.next_power_of_2(K)))
    return Sizes(rows=rows, warps=8 if rows * K > 2048 else 4)


def compress(
    raw: Tensor,
    bias: Tensor,
    partial: Ring,
    norm_weight: Tensor,
    inv_freq: Tensor,
    store: PagedStore,
    places: Places,
    *,
    overlap: bool,
    eps: float,
    hadamard: bool,
    most: int | None = None,
    sizes: Sizes | None = None,
) -> None:
    """See the module docstring for the contract; ValueError for shapes, types and widths that do not fit."""
    layout = layout_of(store)
    _check(raw, bias, partial, norm_weight, inv_freq, store, places, overlap, hadamard)
    T, K, ratio, R = raw.shape[0], store.width, store.ratio, partial.length
    if T == 0:
        return
    span = 2 * ratio if overlap else ratio
    if sizes is None:
        sizes = sizes_of(K, span)
    W, N = bias.shape[1], max(2, triton.next_power_of_2(K))
    at_once = min(T, T if most is None else most) <= R - span + 1
    rows, second = _views(store, layout)
    common = {"W": W, "WP": triton.next_power_of_2(2 * W), "R": R}
    close_kernel[(T,)](
        raw, bias, partial.rows, norm_weight, inv_freq, rows, second, store.table, places.sequence, places.position,
        store.table.shape[1], eps, **common, K=K, N=N, P=2 * inv_freq.shape[0], RATIO=ratio, SPAN=span,
        TILE=sizes.rows, PER_PAGE=store.per_page, ROW=store.rows.shape[1], LAYOUT=layout,
        OUTER=1 << (K.bit_length() - 1) // 2 if hadamard else 0, SCALE=K**-0.5, KEEPS=at_once,
        num_warps=sizes.warps,
    )  # fmt: skip
    if not at_once:
        keep_kernel[(T,)](raw, partial.rows, places.sequence, places.position, T, **common, num_warps=4)


def layout_of(store: PagedStore) -> Layout:
    """How an entry lies in a row of the store; ValueError where its bytes are not those of its format and width."""
    K, P, have = store.width, store.rope, store.rows.shape[-1]
    scales = -(-(K - P) // _SCALES)
    main = K + P + scales + -scales % 8
    known: dict[tuple[str, int], Layout] = {("fp32", 4 * K): "fp32", ("bf16", 2 * K): "bf16"}
    known |= {("fp8", K + 4): "index fp8", ("fp8", main): "main fp8"}
    if K % _SMALL == 0:
        known["fp4", K // 2 + K // _SMALL] = "index fp4"
    if (K - P) % 2 == 0:
        scales = -(-(K - P) // _SMALL) + -(-P // _SMALL)
        known["fp4", (K + P) // 2 + scales + -scales % 8] = "main fp4"  # without rotary channels the same bytes
    if (store.format, have) not in known:
        sizes = sorted(size for form, size in known if form == store.format)
        raise ValueError(f"store.rows have {have} bytes; {store.format} rows of width {K} have {sizes}")
    layout = known[store.format, have]
    if layout == "index fp8" and K % 4:
        raise ValueError(f"store.width is {K}; FP8 index keys need a multiple of 4")
    if layout == "main fp8" and (K % 2 or P % 2 or P > K):
        raise ValueError(f"store.width is {K} with rope {P}; FP8 entries need even numbers, rope at most the width")
    return layout


def _views(store: PagedStore, layout: Layout) -> tuple[Tensor, Tensor]:
    rows = store.rows
    if layout == "fp32":
        return rows.view(torch.float32), rows
    if layout == "bf16":
        return rows.view(torch.int16), rows
    if layout == "main fp8":
        return rows, rows.view(torch.int16)
    return rows, rows.view(torch.float32) if layout == "index fp8" else rows


def _check(
    raw: Tensor, bias: Tensor, partial: Ring, norm_weight: Tensor, inv_freq: Tensor, store: PagedStore, places: Places,
    overlap: bool, hadamard: bool,
) -> None:  # fmt: skip
    T, K, ratio, P = raw.shape[0], store.width, store.ratio, 2 * inv_freq.shape[0]
    W, span = (2 * K, 2 * ratio) if overlap else (K, ratio)
    if raw.shape != (T, 2 * W) or raw.dtype != torch.float32:
        raise ValueError(f"raw is {raw.dtype} {list(raw.shape)}; it must be FP32 [T, {2 * W}]")
    if bias.shape != (ratio, W) or bias.dtype != torch.float32:
        raise ValueError(f"bias is {bias.dtype} {list(bias.shape)}; it must be FP32 {[ratio, W]}")
    R = partial.length
    if partial.rows.shape[2:] != (2 * W,) or partial.rows.dtype != torch.float32 or R & (R - 1) or span > R:
        raise ValueError(f"partial.rows is {partial.rows.dtype} {list(partial.rows.shape)}; it must be FP32 "
                         f"[B, R, {2 * W}], R a power of two from {span}")  # fmt: skip
    if norm_weight.shape != (K,):
        raise ValueError(f"norm_weight is {list(norm_weight.shape)}; it must be {[K]}")
    if inv_freq.dim() != 1 or P > K or (K - P) % 2 or inv_freq.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"inv_freq is {inv_freq.dtype} {list(inv_freq.shape)}; it must be FP64 or FP32 [P / 2], P up "
                         f"to the width {K} and K - P even")  # fmt: skip
    if store.rope and store.rope != P:
        raise ValueError(f"store.rope is {store.rope}; inv_freq turns {P} channels")
    if hadamard and (K & (K - 1) or not 2 <= K <= 1 << 16):
        raise ValueError(f"store.width is {K}; the Hadamard transform needs a power of two from 2")
    if ratio & (ratio - 1) or not 1 <= ratio <= 256:
        raise ValueError(f"store.ratio is {ratio}; it must be a power of two up to 256")
    for name in ("sequence", "position"):
        value = getattr(places, name)
        if value.shape != (T,) or value.dtype != torch.int32:
            raise ValueError(f"places.{name} is {value.dtype} {list(value.shape)}; it must be int32 {[T]}")
    flat = {"raw": raw, "bias": bias, "partial.rows": partial.rows, "store.rows": store.rows,
            "store.table": store.table, "norm_weight": norm_weight, "inv_freq": inv_freq}  # fmt: skip
    for name, value in flat.items():
        if not value.is_contiguous():
            raise ValueError(f"{name} must be contiguous")
