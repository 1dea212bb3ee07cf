"""Exact top-k by a compiled scan (scan.cpp): FP32 on x86 processors with AVX2, no gradient.

Covers: finding the library that the package's build made, the processor's level, the call. Does not cover: machines
without library or processor (`loops` gives the same picks there), a handful of queries, which `loops` scores faster.
"""

from __future__ import annotations

import ctypes
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from octavo.kernels import dispatch
from octavo.kernels.compiled import in_halves
from octavo.kernels.rows import Rows

LIBRARY = Path(__file__).with_name("_scan.so")
LEVELS = ("numba", "C++, AVX2", "C++, AVX-512 VNNI")
_LEAST = 16  # queries from which making bytes of all keys pays
_ENTRIES = (0, 16_384, 4_096)  # entries from which it beats the loop, by level; of fewer too many are scored twice
_WIDTH = 8  # widths of keys are multiples of this


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
    library.octavo_scan.restype = library.octavo_listed.restype = None
    return library if library.octavo_scan_level() else None


def level() -> int:
    """Which body scans for many queries: an index into `LEVELS`."""
    library = _library()
    return 0 if library is None else library.octavo_scan_level()


def serves(q: Tensor) -> bool:
    """Whether the library is there and can score these queries."""
    return q.shape[0] == 1 and q.shape[3] % _WIDTH == 0 and dispatch.loops_on_cpu(q) and level() > 0


def fits(q: Tensor, keys: Rows) -> bool:
    """Whether this body serves the call."""
    return q.shape[1] >= _LEAST and serves(q) and keys.length >= max(_ENTRIES[level()], 1)


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
