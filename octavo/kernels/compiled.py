"""How loops for the CPU are compiled and run.

Covers: `loop` and `part`, numba's compiler with the options of this package, and `in_halves`, which runs a loop on as
many threads as torch uses. Does not cover: which body runs (`dispatch`). Sums may be reassociated (they vectorise
then); NaN and infinity keep their meaning, and a division by zero gives them: a check at every division would keep
loops from vectorising. numba's own threads are not used: a second pool beside torch's would fight for the cores.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any, TypeVar

import torch
from numba import njit

_Function = TypeVar("_Function", bound=Callable[..., Any])
_WORTH = 16  # steps below which handing work to a thread costs more than it saves


_OPTIONS = {"cache": True, "nogil": True, "error_model": "numpy", "fastmath": {"reassoc", "contract", "arcp", "nsz"}}


def loop(function: _Function) -> _Function:
    """Compile at the first call and keep the machine code on disk, beside the file or in the user's cache."""
    compiled: Any = njit(**_OPTIONS)(function)
    return compiled


def part(function: _Function) -> _Function:
    """As `loop`, for what other loops call: its code becomes a part of theirs.

    Left as calls, a function and the copy in its caller bear one name, and which of the two runs, each with sums in its
    own order, would depend on what the process had loaded before.
    """
    compiled: Any = njit(**_OPTIONS, forceinline=True)(function)
    return compiled


def in_halves(part: Callable[[int, int], None], steps: int) -> None:
    """Run `part(start, stop)` over 0 .. steps in equal parts, one a thread; parts must not depend on each other."""
    count = min(torch.get_num_threads(), steps // _WORTH) if steps >= 2 * _WORTH else 1
    if count < 2:
        part(0, steps)
        return
    cuts = [steps * i // count for i in range(count + 1)]
    waiting = [_threads(count - 1).submit(part, cuts[i], cuts[i + 1]) for i in range(1, count)]
    part(cuts[0], cuts[1])
    for each in waiting:
        each.result()


@lru_cache(maxsize=1)
def _threads(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, thread_name_prefix="octavo")
