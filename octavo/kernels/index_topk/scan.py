"""Exact top-k by a compiled scan (scan.cpp): FP32 on x86 processors with AVX2, no gradient.

Covers: finding the library that the package's build made, the processor's level, what runs in words, the calls: many
queries, a handful, and the entries of listed blocks. Does not cover:
machines without library or processor (`loops` gives the same picks there).
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from octavo.kernels import dispatch, native
from octavo.kernels.compiled import in_halves
from octavo.kernels.index_topk import packed
from octavo.kernels.rows import Rows

LIBRARY = Path(__file__).with_name("_scan.so")
LEVELS = ("numba", "C++, AVX2", "C++, AVX-512 VNNI")
_LEAST = 16  # queries from which making bytes of all keys pays
_ENTRIES = (0, 16_384, 4_096)  # entries from which it beats the loop, by level; of fewer too many are scored twice
WIDTH = 8  # widths of keys are multiples of this
_FEW = 8  # queries up to which bytes are not made for a call: what is kept as bytes is used, the rest scored in FP32
_SHARE = 256  # keys of a step that threads share out
_NO_BYTES = (0, 0, 0, 0)
_NO_PLACES = np.empty((0, 7), dtype=np.int64)
_APART = 8192  # keys read at a time where they lie in several places


@lru_cache(maxsize=1)
def _library() -> ctypes.CDLL | None:
    """The compiled scan, None where the package was built without a compiler or the processor is too old."""
    if not LIBRARY.is_file():
        return None
    library = ctypes.CDLL(str(LIBRARY))
    floats = np.ctypeslib.ndpointer(np.float32, flags="C_CONTIGUOUS")
    whole = np.ctypeslib.ndpointer(np.int64, flags="C_CONTIGUOUS")
    number = ctypes.c_int
    library.octavo_scan.argtypes = [number, floats, floats, floats, whole, *[number] * 4, whole]
    library.octavo_listed.argtypes = [*[floats] * 3, whole, whole, *[number] * 6, whole]
    place, some = ctypes.c_int64, ctypes.c_void_p
    library.octavo_part.argtypes = [
        number, floats, floats, floats, *[some] * 4, whole, *[place] * 3, *[number] * 4, floats, whole
    ]  # fmt: skip
    library.octavo_pack.argtypes = [number, floats, place, place, number, *[some] * 4]
    library.octavo_select.argtypes = [
        some, *[number] * 2, some, some, *[number] * 3, *[place] * 3, number, some, number, place, number, some, number,
        some,
    ]  # fmt: skip
    for name in ("scan", "listed", "part", "pack", "select"):
        getattr(library, f"octavo_{name}").restype = None
    return library if library.octavo_scan_level() else None


def level() -> int:
    """Which body scans for many queries: an index into `LEVELS`."""
    library = _library()
    return 0 if library is None else library.octavo_scan_level()


def running() -> str:
    """One sentence: which body scans the index on this machine, and why where it is not the compiled one."""
    if level():
        return f"index scan: compiled ({LEVELS[level()]})"
    if not LIBRARY.is_file():
        return "index scan: numba's loops (this installation was built without a C++ compiler)"
    return "index scan: numba's loops (this processor has no AVX2)"


def serves(q: Tensor) -> bool:
    """Whether the library is there and can score these queries."""
    return q.shape[0] == 1 and q.shape[3] % WIDTH == 0 and dispatch.loops_on_cpu(q) and level() > 0


def fits(q: Tensor, keys: Rows) -> bool:
    """Whether this body serves the call."""
    return q.shape[1] >= _LEAST and serves(q) and keys.length >= max(_ENTRIES[level()], 1)


def fits_few(q: Tensor, keys: Rows) -> bool:
    """Whether `few_topk` serves the call."""
    return q.shape[1] <= _FEW and keys.length > 0 and serves(q)


def few_topk(q: Tensor, w: Tensor, keys: Rows, *, first: int, ratio: int, k: int) -> Tensor:
    """See the package docstring for the contract; picks ascend. Threads share the keys, not the queries."""
    places = addresses(keys)
    if places is not None:
        return _select(q, w, places, first=first, ratio=ratio, length=keys.length, k=k)
    S = q.shape[1]
    seen = np.minimum(np.arange(first + 1, first + S + 1) // ratio, keys.length)
    given = q[0].float().contiguous().numpy(), w[0].float().contiguous().numpy()
    found: list[tuple[np.ndarray, np.ndarray]] = []
    end = int(seen[-1])
    in_halves(partial(_some_keys, *given, _places(keys, end), seen, k, found), -(-end // _SHARE))
    return torch.from_numpy(_merged(found, S, k)).unsqueeze(0)


def few_in_blocks(
    q: Tensor, w: Tensor, keys: Rows, coarse: Rows, *, first: int, ratio: int, k: int, block: int, best: int
) -> Tensor | None:
    """As `few_topk`, among the entries of the `best` best blocks of `block` tokens by their keys `coarse`, of the last
    complete block and of the open one; None where keys do not lie in memory as FP32."""
    places, above = addresses(keys), addresses(coarse)
    if places is None or above is None:
        return None
    levels = {"block": block, "best": best, "coarse": above}
    return _select(q, w, places, first=first, ratio=ratio, length=keys.length, k=k, **levels)


@lru_cache(maxsize=1)
def select_address() -> int:
    """The address of `octavo_select`, 0 without the library."""
    library = _library()
    return 0 if library is None else ctypes.cast(library.octavo_select, ctypes.c_void_p).value or 0


def _select(
    q: Tensor, w: Tensor, places: np.ndarray, *, first: int, ratio: int, length: int, k: int, block: int = 0,
    best: int = 0, coarse: np.ndarray = _NO_PLACES,
) -> Tensor:  # fmt: skip
    library, step, (_, S, I, J) = _library(), native.library(), q.shape
    assert library is not None
    run = None if step is None else native.run_address(step)
    q, w, picks = q.contiguous(), w.float().contiguous(), torch.empty(1, S, k, dtype=torch.int64)
    library.octavo_select(
        run, torch.get_num_threads(), level(), q.data_ptr(), w.data_ptr(), S, I, J, first, ratio, length, k,
        places.ctypes.data, len(places), block, best, coarse.ctypes.data, len(coarse), picks.data_ptr(),
    )  # fmt: skip
    return picks


def addresses(keys: Rows) -> np.ndarray | None:
    """Rows of the structure `Place` of scan.cpp, int64 [n, 7]: first entry, end, address, and the addresses of what is
    kept as bytes, 0 for none. None where keys do not lie in memory as FP32."""
    where = keys.where()
    if where is None:
        return None
    held = [_NO_BYTES] * len(where.starts)
    if isinstance(keys, packed.PartRows):
        held = [
            _NO_BYTES if part.packed is None or part.first % packed.LANES else part.packed.addresses(part.first)
            for part in keys.parts
        ]
    stops = [*where.starts[1:], keys.length]
    rows = [(a, b, at, *own) for a, b, at, own in zip(where.starts, stops, where.addresses, held, strict=True)]
    return np.array(rows, dtype=np.int64).reshape(-1, 7)


class _Place(NamedTuple):
    """Keys that lie together: entries base .. stop - 1, read by `values` when they are asked for, and the addresses of
    their bytes, scales, lengths and errors, None where those are not kept."""

    base: int
    stop: int
    values: Callable[[], np.ndarray]
    packed: tuple[int | None, ...]


_NOT_PACKED = (None,) * 4


def _places(keys: Rows, end: int) -> list[_Place]:
    """Where the keys 0 .. end - 1 lie. What must be copied or converted is so a little at a time, by the threads."""
    if not isinstance(keys, packed.PartRows):
        size = max(1, end if keys.together else _APART)
        cuts = [(lo, min(lo + size, end)) for lo in range(0, end, size)]
        return [_Place(lo, hi, partial(_read, keys, lo, hi), _NOT_PACKED) for lo, hi in cuts]
    found = []
    for part, base in zip(keys.parts, keys.starts, strict=False):
        held, values = _NOT_PACKED, part.values.float().numpy()
        if part.packed is not None and part.first % packed.LANES == 0:
            rows = part.packed.bytes[part.first :], *part.packed.numbers[:, part.first :]
            held = tuple(row.ctypes.data for row in rows)
        found.append(_Place(base, base + len(values), partial(_same, values), held))
    return found


def _read(keys: Rows, lo: int, hi: int) -> np.ndarray:
    return keys.tile(lo, hi)[0].float().contiguous().numpy()


def _same(values: np.ndarray) -> np.ndarray:
    return values


def _some_keys(
    q: np.ndarray, w: np.ndarray, places: list[_Place], seen: np.ndarray, k: int,
    found: list[tuple[np.ndarray, np.ndarray]], start: int, stop: int,
) -> None:  # fmt: skip
    """Append the best, scores and entries [S, k], of the keys of the steps start .. stop - 1."""
    library, (S, I, J) = _library(), q.shape
    assert library is not None
    start, stop = start * _SHARE, min(stop * _SHARE, int(seen[-1]))
    for base, end, values, held in places:
        lo, hi = max(start, base) - base, min(stop, end) - base
        if lo >= hi:
            continue
        scores, entries = np.empty((S, k), dtype=np.float32), np.full((S, k), -1, dtype=np.int64)
        at = held if lo % packed.LANES == 0 else _NOT_PACKED
        library.octavo_part(
            level(), q, w, values(), *at, seen - base, lo, hi, base, S, I, J, k, scores, entries
        )  # fmt: skip
        found.append((scores, entries))


def packs(width: int, dtype: torch.dtype, device: torch.device) -> bool:
    """Whether `pack` serves keys of this kind on this machine."""
    return device.type == "cpu" and dtype == torch.float32 and width % WIDTH == 0 and level() > 0


def pack(keys: Tensor, start: int, stop: int, into: packed.PackedKeys) -> None:
    """Make `into` follow the keys start .. stop - 1 of `keys` [n, J] FP32."""
    library = _library()
    assert library is not None
    at = [into.bytes.ctypes.data, *[row.ctypes.data for row in into.numbers]]
    library.octavo_pack(level(), keys.numpy(), start, stop, keys.shape[1], *at)


def _merged(found: list[tuple[np.ndarray, np.ndarray]], S: int, k: int) -> np.ndarray:
    """The best of the parts' best, [S, k] ascending, -1 behind them: lower entries first among equal scores."""
    picks = np.full((S, k), -1, dtype=np.int64)
    for s in range(S):
        entries = np.concatenate([part[1][s] for part in found] or [picks[s]])
        there = entries >= 0
        best = entries[there]
        if len(best) > k:
            scores = np.concatenate([part[0][s] for part in found])[there]
            best = best[np.lexsort((best, -scores))[:k]]
        picks[s, : len(best)] = np.sort(best)
    return picks


def scan_topk(q: Tensor, w: Tensor, keys: Rows, *, first: int, ratio: int, k: int) -> Tensor:
    """See the package docstring for the contract."""
    S = q.shape[1]
    seen = np.minimum(np.arange(first + 1, first + S + 1) // ratio, keys.length)
    picks = np.full((1, S, k), -1, dtype=np.int64)
    entries = keys.tile(0, int(seen[-1]))[0].float().contiguous().numpy()
    given = q[0].float().contiguous().numpy(), w[0].float().contiguous().numpy()
    in_halves(partial(_some, level(), *given, entries, seen, picks[0]), S)
    return torch.from_numpy(picks)


def _some(
    level: int, q: np.ndarray, w: np.ndarray, keys: np.ndarray, seen: np.ndarray, picks: np.ndarray, start: int,
    stop: int,
) -> None:  # fmt: skip
    """Queries start .. stop - 1."""
    library, (_, I, J) = _library(), q.shape
    assert library is not None
    library.octavo_scan(
        level, q[start:stop], w[start:stop], keys, seen[start:stop], stop - start, I, J, picks.shape[1],
        picks[start:stop],
    )  # fmt: skip


def listed(
    q: np.ndarray, w: np.ndarray, keys: np.ndarray, blocks: np.ndarray, seen: np.ndarray, size: int, picks: np.ndarray,
    start: int, stop: int,
) -> None:  # fmt: skip
    """Fill picks [S, k] of the queries start .. stop - 1 with the best entries of their blocks [S, n]."""
    library, (_, I, J) = _library(), q.shape
    assert library is not None
    library.octavo_listed(
        q[start:stop], w[start:stop], keys, blocks[start:stop], seen[start:stop], stop - start, I, J, blocks.shape[1],
        size, picks.shape[1], picks[start:stop],
    )  # fmt: skip
