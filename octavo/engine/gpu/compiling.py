"""Kernels compiled many at a time, before anything is launched.

Covers: `compiled_only`. Triton compiles a kernel when it is first launched, one after the other, a second or so each;
most of that runs outside of Python's lock. Does not cover: which kernels there are (whoever runs the steps meets them),
kernels that are no Triton's.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import triton
from triton.runtime.jit import JITFunction


@contextlib.contextmanager
def compiled_only(threads: int) -> Iterator[None]:
    """Within, a launch on this thread has its kernel compiled, on up to `threads` others, and does nothing else: what
    it would write is left as it was. At the end all are compiled; what went wrong with one is raised there."""
    launch, own = JITFunction.run, threading.get_ident()

    def run(self: Any, *given: Any, grid: Any, warmup: bool, **options: Any) -> Any:
        return launch(self, *given, grid=grid, warmup=warmup or threading.get_ident() == own, **options)

    with ThreadPoolExecutor(threads) as pool, triton.AsyncCompileMode(pool):
        JITFunction.run = run
        try:
            yield
        finally:
            JITFunction.run = launch
