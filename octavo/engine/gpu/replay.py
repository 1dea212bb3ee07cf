"""Launches that are repeated over buffers that stay where they are, and numbers on their way into such buffers.

Covers: `Replay`, captured when it is run for the second time, and `Staging`. Does not cover: what is launched
(`graphs`, `drafts`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

_TURNS = 2


class Replay:
    """`run` as a graph: the first time it runs as it is, since kernels are compiled, which a capture must not see; the
    second time it is captured, and from then on replayed. `pool` is the handle of a graphs' memory pool; without one
    (the CPU) it always runs as it is.
    """

    def __init__(self, run: Callable[[], None], pool: Any | None) -> None:
        self._run, self._pool = run, pool
        self._graph: torch.cuda.CUDAGraph | None = None
        self._warm = False

    def __call__(self) -> None:
        if self._graph is None and self._warm and self._pool is not None:
            graph = torch.cuda.CUDAGraph()
            torch.cuda.synchronize()
            # Other threads may copy and allocate meanwhile: a service's clients open documents, its shelf is written.
            with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
                self._run()
            self._graph = graph
        if self._graph is not None:
            self._graph.replay()
        else:
            self._run()
            self._warm = True


class Staging:
    """Whole numbers int64 [R, N] on their way to a device. On a GPU two buffers in pinned memory take turns, so that a
    copy need not have happened when the next numbers are written down."""

    def __init__(self, rows: int, width: int, device: torch.device) -> None:
        cuda = device.type == "cuda"
        with torch.inference_mode(False):  # tensors made in inference mode could be written nowhere else
            self._buffers = [
                torch.zeros(rows, width, dtype=torch.int64, pin_memory=cuda) for _ in range(_TURNS if cuda else 1)
            ]
        self._arrays = [buffer.numpy() for buffer in self._buffers]
        self._copied = [torch.cuda.Event() for _ in self._buffers] if cuda else []
        self._turn = 0

    def array(self) -> np.ndarray:
        """The buffer whose turn it is, to be filled wholly; it waits until what the buffer held has been copied."""
        self._turn = (self._turn + 1) % len(self._buffers)
        if self._copied:
            self._copied[self._turn].synchronize()
        return self._arrays[self._turn]

    def send(self, target: Tensor) -> None:
        """Copy the buffer to `target` [R, N], in the order of the device's stream."""
        target.copy_(self._buffers[self._turn], non_blocking=True)
        if self._copied:
            self._copied[self._turn].record()
