"""Greedy decoding a step ahead of the host.

Covers: `Ahead`. While the host reads a token and does what an answer needs, the device is already at the step that the
token begins: it found the token itself. The step counts only once the host says the same token, and nothing came
between; else its rows, behind all that counts, are written over by the next one. Does not cover: the step (`runner`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from octavo.engine.gpu.graphs import StepResult
from octavo.engine.runner import StepOutput
from octavo.engine.sampler import refuse_nan

if TYPE_CHECKING:
    from octavo.engine.gpu.runner import GpuRunner
    from octavo.engine.gpu.state import GpuState


class Ahead:
    """A `StepAhead` of one state of `runner`."""

    def __init__(self, runner: GpuRunner, state: GpuState) -> None:
        self._runner, self._state = runner, state
        self._likeliest = Likeliest(runner.pool.device)
        self._next: StepResult | None = None
        self._token = -1

    @torch.inference_mode()
    def choose(self, logits: Tensor, *, go_on: bool) -> int:
        """As `StepAhead.choose`."""
        self._likeliest.find(logits)
        self._next = self._runner.runs_next(self._state, self._likeliest.token) if go_on else None
        self._token = self._likeliest.read()
        return self._token

    @torch.inference_mode()
    def take(self, token: int) -> StepOutput | None:
        """As `StepAhead.take`."""
        made, self._next = self._next, None
        if made is None or token != self._token or self._state.ahead != self._runner.graphs.count:
            return None
        self._state.advanced(np.array([token]))
        return StepOutput(made.logits, self._runner.silent, made.streams)


class Likeliest:
    """The likeliest token of a row of logits: it stays on the device for the next step, and is read by the host without
    waiting for what the device was given afterwards."""

    def __init__(self, device: torch.device) -> None:
        cuda = device.type == "cuda"
        with torch.inference_mode(False):  # tensors made in inference mode could be written nowhere else
            both = torch.zeros(2, dtype=torch.int64, device=device)  # the token, and the bits of its logit FP32
            self._host = torch.zeros(2, dtype=torch.int64, pin_memory=cuda)
        self._both, self.token, self._logit = both, both[:1], both[1:].view(torch.float32)[:1]
        self._read = torch.cuda.Event() if cuda else None

    def find(self, logits: Tensor) -> None:
        """Look for it in logits FP32 [1, V]; of equals the lowest id."""
        torch.max(logits, -1, out=(self._logit, self.token))
        self._host.copy_(self._both, non_blocking=True)
        if self._read is not None:
            self._read.record()

    def read(self) -> int:
        """The token. CheckpointError where the logits held NaN."""
        if self._read is not None:
            self._read.synchronize()
        token, logit = self._host[0], self._host[1:].view(torch.float32)[0]
        refuse_nan(float(logit))
        return int(token)
