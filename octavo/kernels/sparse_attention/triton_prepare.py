"""What a long chunk does once before its attention: a list of rows for every query, FP8 and FP4 rows as BF16.

Covers: both kernels and their launch. With the list a program finds a row by one load, where it would follow pick, page
and ring for every tile; with BF16 rows it decodes nothing, where each row would be decoded for every query that sees
it. Both pay when queries are many. Does not cover: when they are made (`triton`).
"""

# Triton's annotations do not know that constants arrive as plain numbers, nor launch options.
# pyright: reportArgumentType=false, reportCallIssue=false

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from octavo.kernels.paged import Format, Places
from octavo.kernels.sparse_attention.triton_rows import UNSEEN, alignment, entry_rows, read_rows, store_rows, tile_width

_WHOLE = 64  # a list's length is a multiple of this, so that no tile of keys ends beyond it
_UNSEEN = tl.constexpr(UNSEEN)


@triton.jit(do_not_specialize=["RING", "STORE", "pages", "picked", "window", "width"])
def _list_kernel(sequence, position, table, picks, out, RING, STORE, pages, picked, window, width,
                 PER_PAGE: tl.constexpr, BLOCK: tl.constexpr):  # fmt: skip
    """Program = one token. What it does not see is marked and stands for its own row: that can be read, and is finite
    wherever the result is."""
    t = tl.program_id(0)
    p, b = tl.load(position + t), tl.load(sequence + t)
    lo = tl.maximum(p - window + 1, 0)
    end = tl.where(p >= 0, picked, 0)
    for start in range(0, width, BLOCK):
        j = start + tl.arange(0, BLOCK)
        place = j - window
        listed = (place >= 0) & (place < end)
        entry = tl.load(picks + t.to(tl.int64) * picked + place, mask=listed, other=-1)
        row = entry_rows(b, entry, entry >= 0, table, pages, STORE, PER_PAGE)
        near = (j < window) & (lo + j <= p)
        token = tl.where(near, lo + j, p)
        mark = tl.where(near, 0, _UNSEEN)
        row = tl.where(entry >= 0, row, ((b * RING + (token & (RING - 1))) | mark) - 2147483647 - 1)
        tl.store(out + t.to(tl.int64) * width + j, row, mask=j < width)


@triton.jit(do_not_specialize=["STORE", "pages"])
def _unpack_kernel(rows, table, last, out, STORE, pages, RATIO: tl.constexpr, PER_PAGE: tl.constexpr,
                   ROW: tl.constexpr, ALIGN: tl.constexpr, PLAIN: tl.constexpr, ROPE: tl.constexpr, W: tl.constexpr,
                   FORMAT: tl.constexpr, NATIVE: tl.constexpr, DOT: tl.constexpr, BLOCK: tl.constexpr):  # fmt: skip
    """Program = BLOCK of the STORE rows of one sequence; those that its last token does not see are left alone."""
    b = tl.program_id(0)
    e = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    count = STORE
    if PER_PAGE > 0:
        count = tl.minimum(STORE, (tl.load(last + b) + 1) // RATIO)
    if tl.program_id(1) * BLOCK < count:
        seen = e < count
        row = entry_rows(b, e, seen, table, pages, STORE, PER_PAGE).to(tl.int64)
        x0, x1 = read_rows(rows, rows, e < 0, row, seen, FORMAT, NATIVE, ROW, ALIGN, PLAIN, ROPE, W, DOT)
        at = b.to(tl.int64) * STORE + e
        store_rows(out + at * (PLAIN + ROPE), seen, x0, x1, PLAIN + ROPE, W)


def list_rows(
    places: Places, table: Tensor, picks: Tensor, *, ring: int, entries: int, per_page: int, window: int
) -> Tensor:
    """int32 [T, n]: for each token its window's and its picks' rows, marked as `triton_rows.listed` reads them."""
    T, k = picks.shape
    out = picks.new_empty((T, triton.cdiv(window + k, _WHOLE) * _WHOLE))
    _list_kernel[(T,)](
        places.sequence, places.position, table, picks, out, ring, entries, table.shape[1], k, window, out.shape[1],
        PER_PAGE=per_page, BLOCK=min(1024, triton.next_power_of_2(out.shape[1])),
    )  # fmt: skip
    return out


def last_positions(places: Places, B: int) -> Tensor:
    """int32 [B]: the last position of each sequence in this step, -1 without any."""
    last = places.position.new_full((B,), -1)
    return last.scatter_reduce_(0, places.sequence.long(), places.position, "amax")


def unpack_rows(
    rows: Tensor, table: Tensor | None, last: Tensor, *, sequences: int, entries: int, ratio: int, per_page: int,
    width: int, rope: int, form: Format,
) -> Tensor:  # fmt: skip
    """FP8 or FP4 rows -> BF16 values as uint8 [sequences * entries, 2 * width]. With a table, entries in order that the
    last token sees (what follows is left as it was); without one (per_page 0) all rows as they lie."""
    out = torch.empty((sequences * entries, width), dtype=torch.bfloat16, device=rows.device)
    _unpack_kernel[(sequences, triton.cdiv(entries, 32))](
        rows, last if table is None else table, last, out, entries, 0 if table is None else table.shape[1],
        RATIO=ratio, PER_PAGE=per_page, ROW=rows.shape[-1], ALIGN=alignment(rows), PLAIN=width - rope, ROPE=rope,
        W=tile_width(width), FORMAT=form, NATIVE=rows.is_cuda, DOT=tl.bfloat16 if rows.is_cuda else tl.float32,
        BLOCK=32, num_warps=4,
    )  # fmt: skip
    return out.view(torch.uint8)
