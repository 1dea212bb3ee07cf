"""Launches that are repeated over buffers that stay where they are, and numbers on their way into such buffers.

Covers: `Replay`, captured when it is run for the second time, `Captures`, where graphs are captured, and `Staging`.
Does not cover: what is launched (`graphs`, `chunks`, `drafts`).
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

_TURNS = 2
_log = logging.getLogger(__name__)


class Captures:
    """One memory pool and one stream for all graphs that are captured here: they are replayed one after another, and
    the working memory of one is that of the next."""

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()
        self._stream = torch.cuda.Stream()

    @classmethod
    def on(cls, device: torch.device) -> Captures | None:
        """None on a device without graphs."""
        return cls() if device.type == "cuda" else None

    def take(self, run: Callable[[], None]) -> torch.cuda.CUDAGraph:
        """The launches of `run` as a graph. What `run` or the capture raises goes on, with the stream as it was; the
        next capture is as any other."""
        graph = torch.cuda.CUDAGraph()
        torch.cuda.synchronize()
        with torch.cuda.stream(self._stream):
            try:
                # Other threads may copy and allocate meanwhile: clients open documents, the shelf is written.
                graph.capture_begin(pool=self._pool, capture_error_mode="thread_local")
                run()
            except BaseException:
                with contextlib.suppress(RuntimeError):  # it would only say again that the capture is over
                    self._end(graph)
                raise
            self._end(graph)
        return graph

    def _end(self, graph: torch.cuda.CUDAGraph) -> None:
        try:
            graph.capture_end()
        except BaseException:  # torch takes the pool for one that is still recorded into, and refuses it from now on
            self._pool = torch.cuda.graph_pool_handle()
            raise


class Replay:
    """`run` as a graph: the first time it runs as it is, since kernels are compiled, which a capture must not see; the
    second time it is captured, and from then on replayed. Without `captures` (the CPU) it always runs as it is, and
    where the capture fails, which is logged, from then on.
    """

    def __init__(self, run: Callable[[], None], captures: Captures | None) -> None:
        self._run, self._captures = run, captures
        self._graph: torch.cuda.CUDAGraph | None = None
        self._warm = False

    def rehearse(self) -> None:
        """Run it as it is, and count it as no time: what it launches may be compiled alone."""
        self._run()

    def __call__(self) -> None:
        if self._graph is None and self._warm and self._captures is not None:
            try:
                self._graph = self._captures.take(self._run)
            except RuntimeError as error:
                self._captures = None
                _log.warning("a step is run kernel by kernel: its capture failed: %s", str(error).split("\n")[0])
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
