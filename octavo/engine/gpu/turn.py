"""The next step of one sequence on a GPU, to be made together with those of others.

Covers: `Turn`, what `GpuRunner.together` takes in the place of a stretch of compiled steps: it is one step, and the
state knows it at once, so that nothing is left to settle. Does not cover: the step (`runner`).
"""

from __future__ import annotations

from octavo.engine.gpu.state import GpuState
from octavo.model.stretch import Stretch


class Turn(Stretch):
    """One step of `state`, whatever was done to it before."""

    def __init__(self, state: GpuState) -> None:
        self.state, self.left, self.done = state, 1, 0

    @property
    def length(self) -> int:
        """Tokens of the sequence."""
        return self.state.length

    def settle(self) -> None:
        """The state knows all."""
