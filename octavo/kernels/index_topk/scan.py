"""Exact top-k by a compiled scan (scan.cpp): FP32 on x86 processors with AVX2, no gradient.

Covers: finding the library that the package's build made, the processor's level, what runs in words, the calls: many
queries, exactly and by folded heads, a handful, and the entries of listed blocks. Does not cover: machines
without library or processor (`loops` and `folded` give the same picks there).
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path

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
_ENTRIES = (0, 8_192, 1_024)  # entries from which it beats the loop, by level; of fewer too many are scored twice
WIDTH = 8  # widths of keys are multiples of this
_FEW = 8  # queries up to which bytes are not made for a call: all keys are scored in FP32
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
    place, some = ctypes.c_int64, ctypes.c_void_p
    call = [number, floats, floats, whole, *[number] * 4]
    library.octavo_scan.argtypes = [*call, whole, number, whole]
    library.octavo_listed.argtypes = [*call, whole, number, whole, number, number, whole]
    library.octavo_part.argtypes = [*call, whole, floats, whole]
    library.octavo_pack.argtypes = [number, some, place, place, number, *[some] * 4]
    library.octavo_sketch.argtypes = [some, place, place, number, *[some] * 2]
    library.octavo_folded.argtypes = [*call, whole, number, whole]
    library.octavo_select.argtypes = [
        some, *[number] * 2, some, some, *[number] * 3, *[place] * 3, number, some, number, place, number, some, number,
        some,
    ]  # fmt: skip
    for name in ("scan", "listed", "folded", "part", "pack", "sketch", "select"):
        getattr(library, f"octavo_{name}").restype = None
    library.octavo_select_nanoseconds.restype = place
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
    in_halves(partial(_some_keys, *given, keys, seen, k, found), -(-end // _SHARE))
    return torch.from_numpy(_merged(found, S, k)).unsqueeze(0)


def few_in_blocks(
    q: Tensor, w: Tensor, keys: Rows, coarse: Rows, *, first: int, ratio: int, k: int, block: int, best: int
) -> Tensor | None:
    """As `few_topk`, among the entries of the `best` best blocks of `block` tokens by their keys `coarse` and folded
    heads, and those behind the last border; None where keys do not lie in memory as FP32."""
    places, above = addresses(keys), addresses(coarse)
    if places is None or above is None:
        return None
    levels = {"block": block, "best": best, "coarse": above}
    return _select(q, w, places, first=first, ratio=ratio, length=keys.length, k=k, **levels)


@lru_cache(maxsize=1)
def select_address() -> int:
    """The address of `octavo_select_timed`, 0 without the library."""
    library = _library()
    return 0 if library is None else ctypes.cast(library.octavo_select_timed, ctypes.c_void_p).value or 0


def step_nanoseconds() -> int:
    """How long what `select_address` gives ran in this process, over all threads that called it."""
    library = _library()
    return 0 if library is None else library.octavo_select_nanoseconds()


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
    kept in four bits, 0 for none. None where keys do not lie in memory as FP32."""
    where = keys.where()
    if where is None:
        return None
    held = _kept(keys) if isinstance(keys, packed.PartRows) else [_NO_BYTES] * len(where.starts)
    stops = [*where.starts[1:], keys.length]
    rows = [(a, b, at, *own) for a, b, at, own in zip(where.starts, stops, where.addresses, held, strict=True)]
    return np.array(rows, dtype=np.int64).reshape(-1, 7)


def _kept(keys: packed.PartRows) -> list[tuple[int, ...]]:
    """Of each part the addresses of what is kept in four bits, `_NO_BYTES` where nothing is or the part cuts a group.
    """
    return [
        _NO_BYTES if part.packed is None or part.first % packed.LANES else part.packed.addresses(part.first)
        for part in keys.parts
    ]


def located(keys: Rows, end: int) -> tuple[np.ndarray, Tensor | None]:
    """Rows as of `addresses`; where keys do not lie in memory as FP32, of a copy of the entries 0 .. end - 1, which is
    to be held as long as the rows are used."""
    found = addresses(keys)
    if found is not None:
        return found, None
    values = keys.tile(0, end)[0].float().contiguous()
    return np.array([(0, end, values.data_ptr(), *_NO_BYTES)], dtype=np.int64), values


def _some_keys(
    q: np.ndarray, w: np.ndarray, keys: Rows, seen: np.ndarray, k: int, found: list[tuple[np.ndarray, np.ndarray]],
    start: int, stop: int,
) -> None:  # fmt: skip
    """Append the best, scores and entries [S, k], of the keys of the steps start .. stop - 1. What must be copied or
    converted is so a little at a time."""
    library, (S, I, J) = _library(), q.shape
    assert library is not None
    start, stop = start * _SHARE, min(stop * _SHARE, int(seen[-1]))
    size = max(1, stop - start if keys.together else _APART)
    for lo in range(start, stop, size):
        hi = min(lo + size, stop)
        values = keys.tile(lo, hi)[0].float().contiguous()
        place = np.array([(lo, hi, values.data_ptr(), *_NO_BYTES)], dtype=np.int64)
        scores, entries = np.empty((S, k), dtype=np.float32), np.full((S, k), -1, dtype=np.int64)
        library.octavo_part(level(), q, w, seen, S, I, J, k, place, scores, entries)
        found.append((scores, entries))


def packs(width: int, dtype: torch.dtype, device: torch.device) -> bool:
    """Whether `pack` serves keys of this kind on this machine."""
    return device.type == "cpu" and dtype == torch.float32 and width % WIDTH == 0 and level() > 0


def pack(keys: Tensor, start: int, stop: int, into: packed.PackedKeys, first: int = 0) -> None:
    """Make `into` follow the keys start .. stop - 1; `keys` [n, J] FP32 are those from `first` on, a multiple of 16."""
    library = _library()
    assert library is not None
    assert keys.is_contiguous()
    assert keys.dtype == torch.float32
    assert first % packed.LANES == 0
    library.octavo_sketch(keys.data_ptr(), start - first, stop - first, keys.shape[1], *into.addresses(first)[:2])


def _pack_groups(address: int, count: int, width: int, into: packed.ByteKeys, start: int, stop: int) -> None:
    """Make `into` follow the groups start .. stop - 1 of `count` keys."""
    library, lo, hi = _library(), start * packed.LANES, min(stop * packed.LANES, count)
    assert library is not None
    if isinstance(into, packed.PackedKeys):
        library.octavo_sketch(address, lo, hi, width, *into.addresses(0)[:2])
    else:
        library.octavo_pack(level(), address, lo, hi, width, *into.addresses(0))


def _add_bytes(places: np.ndarray, width: int, end: int) -> list[packed.ByteKeys]:
    """Make bytes of the keys of entries below `end`, by all threads; places [n, 7] take their addresses. Hold what
    comes back as long as these are used."""
    made = []
    for row in places:
        base, stop, address = (int(number) for number in row[:3])
        count = min(stop, end) - base
        if count > 0:
            into = packed.ByteKeys(count, width)
            in_halves(partial(_pack_groups, address, count, width, into), -(-count // packed.LANES))
            row[3:] = into.addresses(0)
            made.append(into)
    return made


def _in_four_bits(coarse: Rows, end: int) -> tuple[np.ndarray, object]:
    """Places as of `addresses` of the coarse keys below `end`, in four bits (of keys that lie nowhere without an
    address), and what is to be held as long as they are used: where they are not kept so in whole groups, they are
    made anew in one place."""
    if isinstance(coarse, packed.PartRows):
        held, starts = _kept(coarse), coarse.starts
        if all(own[0] for own in held) and not any(start % packed.LANES for start in starts[:-1]):
            rows = [(a, b, 0, *own) for a, b, own in zip(starts[:-1], starts[1:], held, strict=True)]
            return np.array(rows, dtype=np.int64).reshape(-1, 7), coarse
    values = coarse.tile(0, end)[0].float().contiguous()
    made = packed.PackedKeys(end, coarse.width)
    in_halves(partial(_pack_groups, values.data_ptr(), end, coarse.width, made), -(-end // packed.LANES))
    return np.array([(0, end, values.data_ptr(), *made.addresses(0))], dtype=np.int64), (values, made)


def folded_topk(q: Tensor, w: Tensor, coarse: Rows, seen: np.ndarray, k: int) -> Tensor:
    """The best k of the first seen[s] rows for query s, by folded heads and keys of four bits (scan_fold.h), ascending;
    -1 fills up."""
    S = q.shape[1]
    picks = np.full((1, S, k), -1, dtype=np.int64)
    places, held = _in_four_bits(coarse, int(seen[-1]))
    given = q[0].float().contiguous().numpy(), w[0].float().contiguous().numpy()
    in_halves(partial(_some, _scanned("folded"), *given, seen, places, picks[0]), S)
    del held
    return torch.from_numpy(picks)


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
    places, copied = located(keys, int(seen[-1]))
    made = _add_bytes(places, q.shape[3], int(seen[-1]))
    given = q[0].float().contiguous().numpy(), w[0].float().contiguous().numpy()
    in_halves(partial(_some, _scanned("scan"), *given, seen, places, picks[0]), S)
    del copied, made
    return torch.from_numpy(picks)


def _scanned(name: str) -> Callable[..., None]:
    """A call of the library for many queries."""
    library = _library()
    assert library is not None
    return getattr(library, f"octavo_{name}")


def _some(
    scanned: Callable[..., None], q: np.ndarray, w: np.ndarray, seen: np.ndarray, places: np.ndarray,
    picks: np.ndarray, start: int, stop: int,
) -> None:  # fmt: skip
    """Queries start .. stop - 1."""
    _, I, J = q.shape
    scanned(
        level(), q[start:stop], w[start:stop], seen[start:stop], stop - start, I, J, picks.shape[1], places,
        len(places), picks[start:stop],
    )  # fmt: skip


def listed(
    q: np.ndarray, w: np.ndarray, places: np.ndarray, blocks: np.ndarray, seen: np.ndarray, size: int,
    picks: np.ndarray, start: int, stop: int,
) -> None:  # fmt: skip
    """Fill picks [S, k] of the queries start .. stop - 1 with the best entries, ascending, of their blocks [S, n];
    `places` are what `located` gives."""
    library, (_, I, J) = _library(), q.shape
    assert library is not None
    library.octavo_listed(
        level(), q[start:stop], w[start:stop], seen[start:stop], stop - start, I, J, picks.shape[1], places,
        len(places), blocks[start:stop], blocks.shape[1], size, picks[start:stop],
    )  # fmt: skip
