"""Attention of packed tokens to ring, paged entries and sink on a GPU: `attend`, for decoding, verification and chunks.

Contract. `attend(q [T, H, K], ring, sink [H], store or None, places, *, picks, window, scale, ...) -> (o [T, H, K],
mass or None)`. A token at position p of sequence b sees the ring's rows of tokens max(p - window + 1, 0) .. p
and, of `store`, the entries listed in `picks` (int32 [T, k], distinct, -1 ignored) or, without picks, all entries
e < (p + 1) // ratio within the table, `offset` (FP32 [B]) added to their logits. One softmax runs over both and the
sink, which is not scaled and has no value. Ring and store hold rows of one format, or the ring FP8 rows beside FP4
entries; keys equal values. `mass` FP32 [T, k] or [T, pages * entries a page]: the probability of each place summed
over heads. Padding gives zeros.
Products are made in q's dtype (FP32 on the CPU), or in FP16 where a compiled kernel serves (`sm90`: Hopper GPUs, FP8
rows of V4's geometry, some work at least); sums in FP32. FP16 products want rows within 65504. Nothing on the
device sets a size: the call can be captured. Limits: K up to 512; FP8 and FP4 rows need compute capability 8.9, and a
rotary part that is a power of two and divides K. A row with NaN reaches the queries that see it and, where queries are
packed, their neighbours in the program.
"""

# Triton's annotations do not know that constants arrive as plain numbers, nor launch options.
# pyright: reportArgumentType=false, reportCallIssue=false

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from octavo.kernels.paged import Format, PagedStore, Places, Ring
from octavo.kernels.sparse_attention import sm90
from octavo.kernels.sparse_attention.triton_forward import PROGRAMS, attend_kernel, combine, mass_kernel
from octavo.kernels.sparse_attention.triton_prepare import last_positions, list_rows, unpack_rows
from octavo.kernels.sparse_attention.triton_rows import CAUSAL, LISTED, NONE, PICKED, alignment, tile_width

_MANY = 256  # queries from which rows are listed and unpacked beforehand
_USES = 8  # of a row on average, from which it is unpacked


@dataclass(frozen=True)
class Config:
    """Sizes of one launch: `queries` neighbouring tokens x `block_h` heads are the rows of a product (16 at least),
    `block_k` keys a tile (64 at most), `splits` programs share a query's keys. `listed`: rows of picks are looked up
    beforehand; `unpacked`: FP8 and FP4 rows become BF16 beforehand."""

    block_h: int
    block_k: int
    queries: int
    splits: int
    warps: int
    stages: int
    listed: bool = False
    unpacked: bool = False


@dataclass(frozen=True)
class Keys:
    """Where keys lie: window rows `near` ([B, ring] rows) and entries `far`, as bytes of format `form` (the window
    beside FP4 entries: FP8); `per_page` 0: entries of a sequence are `entries` rows together. `dense`: token t at row
    t - shift instead of t % ring."""

    near: Tensor
    far: Tensor | None
    table: Tensor | None
    form: Format
    rope: int
    selection: int
    ratio: int
    per_page: int
    ring: int
    entries: int
    dense: bool = False
    shift: int = 0

    def constants(self, q: Tensor) -> dict[str, Any]:
        """As the kernels take them."""
        H, K = q.shape[-2:]
        far = self.near if self.far is None else self.far
        kind = {torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}.get(q.dtype if q.is_cuda else torch.float32)
        return {
            "H": H, "SELECTION": self.selection, "DENSE": self.dense, "RATIO": self.ratio, "PER_PAGE": self.per_page,
            "ROW": far.shape[-1], "ALIGN": alignment(far) if self.form == "fp4" else alignment(self.near, far),
            "FORMAT": self.form, "NATIVE": q.is_cuda, "PLAIN": K - self.rope, "ROPE": self.rope, "W": tile_width(K),
            "DOT": kind or tl.float32,
        }  # fmt: skip


# (programs with so many heads needed at least, heads, keys a tile, warps, stages), the first that fits
_TABLE = ((96, 64, 64, 8, 2), (8, 32, 64, 8, 2), (0, 16, 32, 4, 2))
_FP32 = (16, 16, 4, 1)  # heads, keys a tile, warps, stages: FP32 products do not use the matrix units


def config_of(tokens: int, heads: int, keys: int, *, rows: int, picked: bool, q: Tensor) -> Config:
    """Sizes for `tokens` queries of at most `keys` keys out of `rows` rows. Queries with few heads and without picks
    are packed, since neighbours share their keys."""
    if q.dtype == torch.float32:
        block_h, block_k, warps, stages = _FP32
    else:
        block_h, block_k, warps, stages = next(row[1:] for row in _TABLE if tokens * -(-heads // row[1]) >= row[0])
    wide = triton.next_power_of_2(heads)
    queries = min(block_h // wide, triton.next_power_of_2(tokens)) if not picked and wide < block_h else 1
    block_h = max(16 // queries, min(block_h, wide))
    programs = -(-tokens // queries) * -(-heads // block_h)
    splits = max(1, min(PROGRAMS // programs, -(-keys // block_k)))
    many = tokens >= _MANY
    return Config(
        block_h, block_k, queries, splits, warps, stages, many and picked, many and tokens * keys >= _USES * rows
    )


def attend(
    q: Tensor,
    ring: Ring,
    sink: Tensor,
    store: PagedStore | None,
    places: Places,
    *,
    picks: Tensor | None = None,
    window: int,
    scale: float,
    out: Tensor | None = None,
    mass: bool = False,
    offset: Tensor | None = None,
    config: Config | None = None,
) -> tuple[Tensor, Tensor | None]:
    """See the module docstring. `out` [T, H, K] takes the result, in its dtype; `config` overrides the table, for
    tuning, and asks for Triton's kernel. Raises ValueError for a wrong shape, dtype or layout."""
    T, H, K = q.shape
    form, rope = format_of(ring, store, K)
    _check(q, ring, sink, store, places, picks, window, offset, out, form, rope)
    if store is not None and (store.table.shape[1] == 0 or (picks is not None and picks.shape[1] == 0)):
        store = offset = picks = None
        form = ring_format(form)
    o = torch.empty_like(q) if out is None else out
    keys = Keys(ring.rows, None, None, form, rope, NONE, 1, 0, ring.length, 0)
    if store is not None:
        capacity = store.table.shape[1] * store.per_page
        kind = CAUSAL if picks is None else PICKED
        keys = replace(keys, far=store.rows, table=store.table, selection=kind, ratio=store.ratio,
                       per_page=store.per_page, entries=capacity)  # fmt: skip
    listed = keys.entries if picks is None else picks.shape[1]
    shares = q.new_empty((T, listed), dtype=torch.float32) if mass and listed else None
    if T == 0:
        return o, shares
    B = ring.rows.shape[0]
    compiled = config is None and sm90.serves(q, form, rope) and sm90.pays(T, H, window + listed)
    if config is None:
        rows = B * (ring.length + keys.entries)
        config = config_of(T, H, window + listed, rows=rows, picked=picks is not None, q=q)
    if config.queries > 1 and picks is not None:
        raise ValueError(f"config.queries is {config.queries}; queries with picks of their own allow 1")
    if compiled:
        lse = sm90.attend(
            q, ring, sink, store, places, picks=picks, window=window, scale=scale, offset=offset, out=o
        )
    else:
        lse = launch(q, sink, prepared(keys, places, config, B=B, K=K), places, picks, offset, o, config, window, scale)
    if shares is not None:
        _launch_mass(q, keys, places, picks, offset, lse, shares, config, window, scale)
    return o, shares


def prepared(keys: Keys, places: Places, config: Config, *, B: int, K: int) -> Keys:
    """`keys` as BF16 rows in order where the configuration says so."""
    if not config.unpacked or keys.form not in ("fp8", "fp4"):
        return keys
    last, some = last_positions(places, B), {"sequences": B, "width": K, "rope": keys.rope}
    near = unpack_rows(keys.near, None, last, entries=keys.ring, ratio=1, per_page=0, form="fp8", **some)
    far = None
    if keys.far is not None:
        far = unpack_rows(keys.far, keys.table, last, entries=keys.entries, ratio=keys.ratio, per_page=keys.per_page,
                          form=keys.form, **some)  # fmt: skip
    return replace(keys, near=near, far=far, form="bf16", rope=0, per_page=0)


def launch(
    q: Tensor, sink: Tensor, keys: Keys, places: Places, picks: Tensor | None, offset: Tensor | None, out: Tensor,
    config: Config, window: int, scale: float, borders: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Attention into `out` [T, H, K] -> log sums with the sink, in base 2, FP32 [T, H]. `borders`: int32 [3, T] of rows
    of several documents, as the kernel takes it."""
    T, H, K = q.shape
    if config.listed and picks is not None:
        assert keys.table is not None
        picks = list_rows(places, keys.table, picks, ring=keys.ring, entries=keys.entries, per_page=keys.per_page,
                          window=window)  # fmt: skip
        keys = replace(keys, selection=LISTED)
    splits = config.splits
    lse = q.new_empty((T, H), dtype=torch.float32)
    into, reach = out, lse
    if splits > 1:
        into = q.new_empty((T, splits, H, K), dtype=torch.float32)
        reach = q.new_empty((T, splits, H), dtype=torch.float32)
    grid = (triton.cdiv(T, config.queries) * triton.cdiv(H, config.block_h) * splits,)
    attend_kernel[grid](
        q, *tensors_of(keys, places, picks, offset), places.position if borders is None else borders, sink, into, reach,
        T, *sizes_of(keys, picks), window, scale, **keys.constants(q), OFFSET=offset is not None,
        BORDERS=borders is not None, QUERIES=config.queries, SPLITS=splits, BLOCK_H=config.block_h,
        BLOCK_K=config.block_k, num_warps=config.warps, num_stages=config.stages,
    )  # fmt: skip
    if splits > 1:
        combine(into, reach, sink, places.position, out, lse)
    return lse


def tensors_of(keys: Keys, places: Places, picks: Tensor | None, offset: Tensor | None) -> tuple[Tensor, ...]:
    """The kernels' tensors that say where keys are; an absent one is another, which is not read."""
    far = keys.near if keys.far is None else keys.far
    p = places.position
    table, listed, level = (p if x is None else x for x in (keys.table, picks, offset))
    return keys.near, far, table, places.sequence, p, listed, level


def sizes_of(keys: Keys, picks: Tensor | None) -> tuple[int, int, int, int, int]:
    """RING, STORE, pages, picked, shift."""
    pages = 0 if keys.table is None else keys.table.shape[1]
    return keys.ring, keys.entries, pages, 0 if picks is None else picks.shape[-1], keys.shift


def _launch_mass(
    q: Tensor, keys: Keys, places: Places, picks: Tensor | None, offset: Tensor | None, lse: Tensor, mass: Tensor,
    config: Config, window: int, scale: float,
) -> None:  # fmt: skip
    mass_kernel[(q.shape[0], triton.cdiv(mass.shape[1], config.block_k))](
        q, *tensors_of(keys, places, picks, offset), lse, mass, q.shape[0], mass.shape[1], *sizes_of(keys, picks),
        window, scale,
        **keys.constants(q), OFFSET=offset is not None, BLOCK_H=max(16, config.block_h), BLOCK_K=config.block_k,
        num_warps=config.warps, num_stages=1,
    )  # fmt: skip


def format_of(ring: Ring, store: PagedStore | None, K: int) -> tuple[Format, int]:
    """Format and rotary channels of the rows: the store's, or without one what the ring's row length says."""
    if store is not None:
        return store.format, store.rope if store.format in ("fp8", "fp4") else 0
    width = ring.rows.shape[-1]
    if width in (2 * K, 4 * K):
        return ("bf16", 0) if width == 2 * K else ("fp32", 0)
    return "fp8", width - K - 8


def ring_format(entries: Format) -> Format:
    """Format of the window rows beside entries of format `entries`."""
    return "fp8" if entries == "fp4" else entries


def _check(
    q: Tensor, ring: Ring, sink: Tensor, store: PagedStore | None, places: Places, picks: Tensor | None, window: int,
    offset: Tensor | None, out: Tensor | None, form: Format, rope: int,
) -> None:  # fmt: skip
    """ValueError for what the kernels would read wrongly."""
    T, H, K = q.shape
    floats = (torch.bfloat16, torch.float16, torch.float32)
    _require("q", q, (T, H, K), floats)
    if not 1 <= K <= 512:
        raise ValueError(f"q has {K} channels; 1 to 512 are possible")
    if form not in ("bf16", "fp32", "fp8", "fp4"):
        raise ValueError(f"store.format is {form}; it must be bf16, fp32, fp8 or fp4")
    words, divisor = form in ("fp8", "fp4"), 16 if form == "fp4" else 8
    if words and (not 0 <= rope < K or (rope and (rope & (rope - 1) or K % rope)) or (K + rope) % divisor):
        raise ValueError(f"rope is {rope} of {K} channels; {form.upper()} rows need a power of two below and dividing "
                         f"{K}, or 0, and K + rope a multiple of {divisor}")  # fmt: skip
    B, R = ring.rows.shape[:2]
    scales = -(-(K - rope) // 32) + -(-rope // 32)
    sizes = {"bf16": 2 * K, "fp32": 4 * K, "fp8": K + rope + 8, "fp4": (K + rope) // 2 + scales + -scales % 8}
    _require("ring.rows", ring.rows, (B, R, sizes[ring_format(form)]), (torch.uint8,))
    if R & (R - 1) or not 1 <= window <= R:
        raise ValueError(f"window is {window} of a ring of {R}; the ring must be a power of two, the window within it")
    _require("sink", sink, (H,), floats)
    _require("places.sequence", places.sequence, (T,), (torch.int32,))
    _require("places.position", places.position, (T,), (torch.int32,))
    if store is None:
        if picks is not None or offset is not None:
            raise ValueError("picks or offset is given without a store; they are about its entries")
    else:
        _require("store.rows", store.rows, (store.rows.shape[0], sizes[form]), (torch.uint8,))
        _require("store.table", store.table, (B, store.table.shape[1]), (torch.int32,))
        if store.width != K:
            raise ValueError(f"store.width is {store.width}; q has {K} channels")
    if picks is not None:
        _require("picks", picks, (T, picks.shape[-1]), (torch.int32,))
    if offset is not None:
        _require("offset", offset, (B,), (torch.float32,))
        if picks is not None:
            raise ValueError("offset is given with picks; it is for all entries")
    if out is not None:
        _require("out", out, (T, H, K), floats)
    if words and (ring.rows.data_ptr() % 8 or (store is not None and store.rows.data_ptr() % 8)):
        raise ValueError(f"rows begin at an address that 8 does not divide; {form.upper()} rows are read in words of 8 "
                         "bytes")  # fmt: skip


def _require(name: str, x: Tensor, shape: tuple[int, ...], dtypes: tuple[torch.dtype, ...]) -> None:
    if tuple(x.shape) != shape or x.dtype not in dtypes or not x.is_contiguous():
        raise ValueError(
            f"{name} is {x.dtype} {tuple(x.shape)}{'' if x.is_contiguous() else ' with gaps'}; "
            f"it must be contiguous, {' or '.join(map(str, dtypes))} of shape {shape}"
        )
