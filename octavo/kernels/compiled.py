"""How loops for the CPU are compiled and run.

Covers: `loop`, numba's compiler with the options of this package, and `in_halves`, which runs one on as many threads as
torch uses. Does not cover: which body runs (`dispatch`). Sums may be reassociated (they vectorise then); NaN and
infinity keep their meaning, and a division by zero gives them: a check at every division would keep loops from
vectorising. numba's own threads are not used: a second pool beside torch's would fight for the cores.
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


def loop(function: _Function) -> _Function:
    """Compile at the first call and keep the machine code on disk, beside the file or in the user's cache."""
    fast = {"reassoc", "contract", "arcp", "nsz"}
    compiled: Any = njit(cache=True, nogil=True, error_model="numpy", fastmath=fast)(function)
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
