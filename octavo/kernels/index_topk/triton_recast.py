"""FP4 index keys as FP8 rows in order, once for a long chunk.

Covers: the kernel and its launch. A tile of FP4 keys would be decoded for every few queries that score it; the matrix
units take FP8 as it is. e2m1 times a power of two is e4m3 exactly as long as the groups of a key differ by at most 2^14
in scale; smaller groups are rounded to 2^-15 of the key's largest number. Does not cover: when it pays (`triton`).
"""

# Triton's annotations do not know that constants arrive as plain numbers, nor launch options.
# pyright: reportArgumentType=false, reportCallIssue=false, reportAttributeAccessIssue=false

from __future__ import annotations

from dataclasses import replace

import torch
import triton
import triton.language as tl

from octavo.kernels.bits import from_e2m1, from_e8m0, to_e4m3
from octavo.kernels.paged import PagedStore

_ROWS = 64  # of a program
_SHIFT = tl.constexpr(6)  # the largest number of a key becomes at most 6 * 2^6 = 384, e4m3 ends at 448


@triton.jit(do_not_specialize=["pages"])
def _recast(rows, table, out, scales, pages, J: tl.constexpr, PER_PAGE: tl.constexpr, ROWS: tl.constexpr):
    entry = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    b = tl.program_id(1).to(tl.int64)
    known = entry < pages * PER_PAGE
    page = tl.load(table + b * pages + entry // PER_PAGE, mask=known, other=0)
    row = (page.to(tl.int64) * PER_PAGE + entry % PER_PAGE) * (J // 2 + J // 32)
    j, g = tl.arange(0, J // 2), tl.arange(0, J // 32)
    codes = tl.load(rows + row[:, None] + j[None, :], mask=known[:, None], other=0)
    exponent = tl.load(rows + row[:, None] + J // 2 + g[None, :], mask=known[:, None], other=127).to(tl.int32)
    top = tl.max(exponent, axis=1)
    share = tl.maximum(127 + _SHIFT + exponent - top[:, None], 0).to(tl.uint8)
    value = tl.join(from_e2m1(codes & 15), from_e2m1(codes >> 4))
    value = tl.reshape(value, (ROWS, J // 32, 32)) * tl.expand_dims(from_e8m0(share), 2)
    to = (b * pages * PER_PAGE + entry) * (J + 4)
    c = tl.arange(0, J)
    tl.store(out + to[:, None] + c[None, :], to_e4m3(tl.reshape(value, (ROWS, J))), mask=known[:, None])
    scale = from_e8m0(top.to(tl.uint8)) * (1.0 / 64)
    tl.store(scales + to // 4 + J // 4, scale, mask=known)


def recast(store: PagedStore) -> PagedStore:
    """All entries within the table of an FP4 store as an FP8 store whose pages lie in order."""
    B, pages = store.table.shape
    out = torch.empty(B * pages * store.per_page, store.width + 4, dtype=torch.uint8, device=store.rows.device)
    if len(out):
        _recast[(triton.cdiv(pages * store.per_page, _ROWS), B)](
            store.rows, store.table, out, out.view(torch.float32), pages, J=store.width, PER_PAGE=store.per_page,
            ROWS=_ROWS, num_warps=4,
        )  # fmt: skip
    table = torch.arange(B * pages, dtype=torch.int32, device=out.device).view(B, pages)
    return replace(store, rows=out, table=table, format="fp8")
