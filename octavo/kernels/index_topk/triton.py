"""Exact top-k of index scores over paged keys on a GPU: scores into bounded scratch, then the best k in two levels.

Contract: `topk(q [T, I, J], w [T, I], store, places, *, k, fp8=False) -> int32 [T, k]`: for packed row t the k best
entries e among those below (position[t] + 1) // ratio by sum_i w_i relu(q_i . key_e), ascending; the lower entry wins
ties; -1 fills up where fewer are visible, and in padding rows. At most k visible entries are all picked, whatever their
scores; among more a NaN score ranks last. q and w are BF16 or FP32. Not differentiable.

Products: FP32 where q or the store is; BF16 for a BF16 store; FP16 for FP8 and FP4 keys (exact for the keys, queries
kept to 2^-24 of a head's largest channel); with `fp8` the queries are rounded to e4m3, a power of two a head, for FP8
keys on a GPU: exact for queries that are FP4 values whose scales differ by up to 2^13. Sums are FP32. Where queries are
many, FP4 keys become FP8 first (`triton_recast`).

Covers: sizes of everything that a launch needs, from shapes alone, so that the call can be captured in a graph. Does
not cover: the kernels (`triton_scores`, `triton_select`).
"""

# pyright: reportArgumentType=false, reportCallIssue=false

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
from torch import Tensor

from octavo.kernels.index_topk.triton_recast import recast
from octavo.kernels.index_topk.triton_scores import score_kernel
from octavo.kernels.index_topk.triton_select import identity_kernel, select_kernel
from octavo.kernels.paged import PagedStore, Places

SCRATCH = 1 << 29  # bytes of scores held at once; more queries go in turns
PROGRAMS = 2112  # of a score launch at least, 16 for each of 132 processors, where there are tiles enough
_MOST = 1 << 15  # entries or groups that one program chooses from
_ROW = {"fp32": 4, "bf16": 2}
_MANY = 256  # queries of a sequence from which FP4 keys are recast


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Sizes of the launches: queries and keys of a product, entries of a group, tiles of keys of a program, queries
    whose scores are held at once, warps and stages."""

    queries: int
    keys: int
    group: int
    tiles: int
    turn: int
    warps: int = 4
    stages: int = 3
    select_warps: int = 16


def plan(T: int, I: int, C: int, k: int, *, sequences: int, products: str) -> Plan:
    """The plan for T queries of I heads over C entries in `products` ("fp32", "bf16", "fp16", "fp8"); ValueError where
    C is too large for k."""
    heads = triton.next_power_of_2(I)
    near = 1 if sequences >= T else 4  # queries of one sequence share the keys of a tile
    if products == "fp32":
        keys, near, warps, stages = 32, 1, 4, 2
    else:
        keys, warps, stages = 128, 4, 3 if near == 1 else 2
    queries = max(near, 16 // heads)  # a product has at least 16 columns
    group = _group(C, k, keys)
    all_tiles = triton.cdiv(C, keys)
    turn = max(queries, min(T, SCRATCH // (4 * keys * max(1, all_tiles))) // queries * queries)
    tiles = max(min(4, all_tiles), triton.cdiv(triton.cdiv(min(turn, T), queries) * all_tiles, PROGRAMS))
    return Plan(queries=queries, keys=keys, group=group, tiles=max(1, tiles), turn=turn, warps=warps, stages=stages)


def _group(C: int, k: int, most: int) -> int:
    """Entries of a group: a power of two up to `most` for which a program reads least in both levels; 1: one level."""
    best, least = 0, 2 * _MOST + 1
    width, group = triton.next_power_of_2(k), 1
    while group <= most:
        outer = triton.next_power_of_2(triton.cdiv(max(C, 1), group))
        inner = width * group if group > 1 else 0
        if max(outer, inner) <= _MOST and outer + inner < least:
            best, least = group, outer + inner
        group *= 2
    if not best:
        raise ValueError(f"the table has {C} entries; with k = {k} and groups of up to {most} that is too many")
    return best


def products_of(q: Tensor, store: PagedStore, fp8: bool = False) -> str:
    """The type of the products, see the module docstring; the interpreter multiplies FP32 only. ValueError where `fp8`
    does not fit."""
    if fp8 and (store.format not in ("fp8", "fp4") or q.dtype != torch.bfloat16 or not q.is_cuda):
        raise ValueError(f"fp8 is set for {q.dtype} queries on {q.device.type} over {store.format} keys; it needs BF16 "
                         "queries on a GPU and FP8 or FP4 keys")  # fmt: skip
    if fp8 and store.format == "fp8":
        return "fp8"
    if q.dtype == torch.float32 or store.format == "fp32" or not q.is_cuda:
        return "fp32"
    return "bf16" if store.format == "bf16" else "fp16"


def topk(
    q: Tensor, w: Tensor, store: PagedStore, places: Places, *, k: int, fp8: bool = False, sizes: Plan | None = None
) -> Tensor:
    """See the module docstring for the contract. `sizes` replaces the plan. Raises ValueError for shapes and types that
    do not fit."""
    _check(q, w, store, places, k)
    T, I, J = q.shape
    pages = store.table.shape[1]
    C = pages * store.per_page
    picks = torch.empty(T, k, dtype=torch.int32, device=q.device)
    if T == 0:
        return picks
    q, w, width = q.contiguous(), w.contiguous(), triton.next_power_of_2(k)
    view = {"K": k, "KP": width, "PER_PAGE": store.per_page, "RATIO": store.ratio}
    if k >= C:
        identity_kernel[(T,)](places.position, picks, pages, **view)
        return picks
    if store.format == "fp4" and _MANY * store.table.shape[0] <= T:
        store = recast(store)
    products = products_of(q, store, fp8)
    if sizes is None:
        sizes = plan(T, I, C, k, sequences=store.table.shape[0], products=products)
    turn = min(sizes.turn, T)
    keys, peaks = scratch(turn, C, sizes, q.device)
    listed = torch.empty(turn, k, dtype=torch.int32, device=q.device)
    for lo in range(0, T, turn):
        hi = min(lo + turn, T)
        some = Places(places.sequence[lo:hi], places.position[lo:hi])
        put_scores(q[lo:hi], w[lo:hi], store, some, keys, peaks, k=k, sizes=sizes, products=products)
        select_kernel[(hi - lo,)](
            keys, peaks, listed, some.position, picks[lo:hi], pages, keys.stride(0), peaks.stride(0), **view,
            G=sizes.group, N=triton.next_power_of_2(triton.cdiv(C, sizes.group)), num_warps=sizes.select_warps,
        )  # fmt: skip
    return picks


def scratch(turn: int, C: int, sizes: Plan, device: torch.device) -> tuple[Tensor, Tensor]:
    """Uninitialised room for the ordered scores of `turn` queries and for the peaks of their groups, int32, whole tiles
    of entries each."""
    tiles = triton.cdiv(C, sizes.keys)
    keys = torch.empty(turn, tiles * sizes.keys, dtype=torch.int32, device=device)
    if sizes.group == 1:
        return keys, keys
    return keys, torch.empty(turn, tiles * (sizes.keys // sizes.group), dtype=torch.int32, device=device)


def put_scores(
    q: Tensor, w: Tensor, store: PagedStore, places: Places, keys: Tensor, peaks: Tensor, *, k: int, sizes: Plan,
    products: str,
) -> None:  # fmt: skip
    """Ordered scores of queries that see more than k entries into `keys`, of their groups into `peaks`; elsewhere both
    stay as they are. Arguments are those of `topk`, checked there."""
    T, I, J = q.shape
    rows, scales, row = _elements(store)
    tiles = triton.cdiv(store.table.shape[1] * store.per_page, sizes.keys)
    score_kernel[triton.cdiv(T, sizes.queries), triton.cdiv(tiles, sizes.tiles)](
        q, w, rows, scales, store.table, places.sequence, places.position, keys, peaks,
        T, store.table.shape[1], keys.stride(0), peaks.stride(0), sizes.tiles,
        I=I, J=J, IP=triton.next_power_of_2(I), JP=max(16, triton.next_power_of_2(J)), ROW=row,
        FORMAT=store.format, PER_PAGE=store.per_page, RATIO=store.ratio, K=k, G=sizes.group,
        BQ=sizes.queries, BK=sizes.keys, DOT=products, num_warps=sizes.warps, num_stages=sizes.stages,
    )  # fmt: skip


def _elements(store: PagedStore) -> tuple[Tensor, Tensor, int]:
    """The rows in the format's elements, the same as FP32 for scales, and the elements of a row."""
    rows = store.rows
    if store.format == "fp32":
        rows = rows.view(torch.float32)
    elif store.format == "bf16":
        rows = rows.view(torch.bfloat16)
    scales = store.rows.view(torch.float32) if store.format == "fp8" else rows
    return rows, scales, rows.shape[1]


def row_bytes(store: PagedStore) -> int:
    """Bytes of an index key in the store's format; ValueError for a width that the format cannot hold."""
    J = store.width
    if store.format == "fp4":
        if J % 32:
            raise ValueError(f"store.width is {J}; FP4 keys need a multiple of 32")
        return J // 2 + J // 32
    if store.format == "fp8":
        if J % 4:
            raise ValueError(f"store.width is {J}; FP8 keys need a multiple of 4")
        return J + 4
    return J * _ROW[store.format]


def _check(q: Tensor, w: Tensor, store: PagedStore, places: Places, k: int) -> None:
    if q.dim() != 3 or q.dtype not in (torch.float32, torch.bfloat16):
        raise ValueError(f"q is {q.dtype} {list(q.shape)}; it must be BF16 or FP32 [T, I, J]")
    T, I, J = q.shape
    if store.width != J or store.rows.dim() != 2 or store.rows.shape[1] != row_bytes(store):
        raise ValueError(
            f"store.rows is {list(store.rows.shape)} of width {store.width}; q has width {J}, and {store.format} rows "
            f"of width {store.width} have {row_bytes(store)} bytes"
        )
    if not store.rows.is_contiguous() or not store.table.is_contiguous():
        raise ValueError("store.rows and store.table must be contiguous")
    if w.shape != (T, I):
        raise ValueError(f"w is {list(w.shape)}; it must be {[T, I]}")
    for name in ("sequence", "position"):
        value = getattr(places, name)
        if value.shape != (T,) or value.dtype != torch.int32:
            raise ValueError(f"places.{name} is {value.dtype} {list(value.shape)}; it must be int32 {[T]}")
    if k < 1:
        raise ValueError(f"k is {k}; it must be at least 1")
