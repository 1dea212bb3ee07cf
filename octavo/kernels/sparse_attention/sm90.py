"""Attention of one token at a time over FP8 rows of DeepSeek-V4's geometry, for Hopper GPUs (attend_sm90.cu).

Covers: finding the library that the package's build made, what it serves, how many parts a token's keys are cut into,
the call. Products are made in FP16, sums in FP32: values of rows beyond 65504 become infinite, those below 2^-24 zero.
Rows end where 8 divides the address. Does not cover: other row formats, widths and devices, gradients (`triton`).
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor

from octavo.kernels.paged import PagedStore, Places, Ring
from octavo.kernels.sparse_attention.triton_forward import combine

LIBRARY = Path(__file__).with_name("_attend_sm90.so")
HEADS, WIDTH, ROPE, TILE = 64, 512, 64, 48
_NONE, _CAUSAL, _PICKED = 0, 1, 2
_KINDS = {torch.bfloat16: 0, torch.float16: 1, torch.float32: 2}
_MOST = 32  # parts of a token's keys
# What takes time beside the tiles of a block, in tiles (2 us on an H200, measured at 14 and 24 tiles, batch 1 to 64).
_PART = 4.5  # a part: keys found, queries in, sums out
_JOIN = 1.5  # joining parts by a second kernel,
_TRIP = 0.08  # and for every part of every token's 64 heads its trip through memory
_MEET = 0.3  # joining them where the blocks of a token's parts are a cluster
CLUSTERS: tuple[int, ...] = (2, 3, 4, 8)  # parts of which that may be so
_LEAST = 64  # tiles of all queries from which it beats Triton's kernel, which starts sooner


class _Attend(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("q", "ring", "store", "table", "sequence", "position", "picks", "offset",
                                               "sink", "out", "lse")),
        *((name, ctypes.c_int32) for name in ("tokens", "heads", "ring_length", "pages", "picked", "window", "splits",
                                              "ratio_bits", "per_page_bits", "selection", "kind", "query_kind")),
        ("scale", ctypes.c_float),
    ]  # fmt: skip


@lru_cache(maxsize=1)
def _library() -> ctypes.CDLL | None:
    """The compiled kernel, None where the package was built without CUDA's compiler."""
    if not LIBRARY.is_file():
        return None
    library = ctypes.CDLL(str(LIBRARY))
    library.octavo_attend_sm90.argtypes = [ctypes.POINTER(_Attend), ctypes.c_int, ctypes.c_int, ctypes.c_void_p]
    library.octavo_attend_sm90_clusters.argtypes = [ctypes.c_int]
    library.octavo_attend_sm90.restype = library.octavo_attend_sm90_clusters.restype = ctypes.c_int
    return library


@lru_cache(maxsize=8)
def _blocks(device: torch.device) -> int:
    """Multiprocessors of a Hopper GPU, 0 for any other device."""
    if device.type != "cuda" or torch.cuda.get_device_capability(device) != (9, 0):
        return 0
    return torch.cuda.get_device_properties(device).multi_processor_count


@lru_cache(maxsize=8)
def _clusters(device: torch.device) -> Mapping[int, int]:
    """How many clusters of each size of `CLUSTERS` the device runs at a time."""
    library = _library()
    if library is None or not _blocks(device):
        return {}
    with torch.cuda.device(device):
        return {parts: library.octavo_attend_sm90_clusters(parts) for parts in CLUSTERS}


def running(device: torch.device) -> str:
    """One sentence: which body attends to FP8 rows on this device, and why where it is not the compiled one."""
    if not _blocks(device):
        return "attention: Triton (the compiled kernel is for Hopper GPUs)"
    if _library() is None:
        return "attention: Triton (this installation was built without CUDA's compiler)"
    return "attention: compiled (CUDA, sm_90a)"


def serves(q: Tensor, form: str, rope: int) -> bool:
    """Whether the compiled kernel is there for queries [T, H, K] over rows of this format."""
    H, K = q.shape[-2:]
    fits = form == "fp8" and K == WIDTH and rope == ROPE and H % HEADS == 0 and q.data_ptr() % 16 == 0
    return fits and q.dtype in (torch.bfloat16, torch.float16) and _blocks(q.device) > 0 and _library() is not None


def pays(tokens: int, heads: int, keys: int) -> bool:
    """Whether it is worth calling for so many queries of at most `keys` keys."""
    return tokens * (heads // HEADS) * -(-keys // TILE) >= _LEAST


def splits_of(
    tokens: int, heads: int, keys: int, blocks: int, clusters: Mapping[int, int] = MappingProxyType({})
) -> tuple[int, bool]:
    """Parts that the keys of a token are cut into, so that all blocks have work and few have more than others, and
    whether a cluster of blocks joins them: what takes least, counted in rounds of blocks that run at a time.
    `clusters`: how many of so many blocks do; each has one token and 64 heads."""
    items, tiles = tokens * (heads // HEADS), -(-keys // TILE)

    def cost(choice: tuple[int, bool]) -> float:
        splits, joined = choice
        rounds = -(-items // clusters[splits]) if joined else -(-items * splits // blocks)
        join = _MEET if joined else _JOIN + _TRIP * items * splits if splits > 1 else 0
        return rounds * (-(-tiles // splits) + _PART) + join

    alone = [(splits, False) for splits in range(1, min(_MOST, max(tiles, 1)) + 1)]
    met = [(splits, True) for splits, count in clusters.items() if count]
    return min([*alone, *met], key=cost)


def attend(
    q: Tensor, ring: Ring, sink: Tensor, store: PagedStore | None, places: Places, *, picks: Tensor | None, window: int,
    scale: float, offset: Tensor | None, out: Tensor, parts: tuple[int, bool] | None = None,
) -> Tensor:  # fmt: skip
    """As `triton.attend` for q BF16 or FP16 [T, H, 512], into `out` [T, H, 512] -> log sums with the sink, in base 2,
    FP32 [T, H]. `parts` overrides what `splits_of` says; a cluster has 2, 3, 4 or 8. Raises RuntimeError with the
    device's error code."""
    T, H, K = q.shape
    if parts is None:
        capacity = 0 if store is None else store.table.shape[1] * store.per_page if picks is None else picks.shape[1]
        parts = splits_of(T, H, window + capacity, _blocks(q.device), _clusters(q.device))
    splits, joined = parts
    if out.data_ptr() % 16:  # it is written in pieces of 16 bytes
        own = torch.empty_like(out)
        lse = attend(q, ring, sink, store, places, picks=picks, window=window, scale=scale, offset=offset, out=own,
                     parts=parts)  # fmt: skip
        out.copy_(own)
        return lse
    lse = q.new_empty((T, H), dtype=torch.float32)
    some = {"picks": picks, "window": window, "scale": scale, "offset": offset, "splits": splits, "joined": joined}
    if splits == 1 or joined:
        _launch(q, ring, sink, store, places, out=out, lse=lse, **some)
        return lse
    sums = q.new_empty((T, splits, H, K), dtype=torch.float16)  # each within the largest of its rows
    reach = q.new_empty((T, splits, H), dtype=torch.float32)
    _launch(q, ring, sink, store, places, out=sums, lse=reach, **some)
    combine(sums, reach, sink, places.position, out, lse)
    return lse


def _launch(
    q: Tensor, ring: Ring, sink: Tensor, store: PagedStore | None, places: Places, *, picks: Tensor | None, window: int,
    scale: float, offset: Tensor | None, out: Tensor, lse: Tensor, splits: int, joined: bool,
) -> None:  # fmt: skip
    """Into `out` [T, H, 512] and `lse` [T, H] with the sink, also where several parts are `joined`; else those into
    `out` [T, splits, H, 512] and `lse` [T, splits, H] without it."""
    library = _library()
    assert library is not None
    selection = _NONE if store is None else _CAUSAL if picks is None else _PICKED
    sink = sink.float()

    def at(x: Tensor | None) -> int | None:
        return None if x is None else x.data_ptr()

    given = _Attend(
        at(q), at(ring.rows), at(None if store is None else store.rows), at(None if store is None else store.table),
        at(places.sequence), at(places.position), at(picks), at(offset), at(sink), at(out), at(lse),
        q.shape[0], q.shape[1], ring.length, 0 if store is None else store.table.shape[1],
        0 if picks is None else picks.shape[1], window, splits, 0 if store is None else store.ratio.bit_length() - 1,
        0 if store is None else store.per_page.bit_length() - 1, selection, _KINDS[out.dtype], _KINDS[q.dtype], scale,
    )  # fmt: skip
    with torch.cuda.device(q.device):
        stream = torch.cuda.current_stream().cuda_stream
        error = library.octavo_attend_sm90(ctypes.byref(given), _blocks(q.device), joined, stream)
    if error:
        raise RuntimeError(f"the compiled attention did not start: CUDA error {error}")
