"""The activation of experts for loops on the CPU."""

from __future__ import annotations

from octavo.kernels.compiled import part
from octavo.kernels.floats import logistic


@part
def swiglu(gate, up, limit, share):
    """silu(min(gate, limit)) * clamp(up, -limit, limit) * share; NaN stays NaN."""
    gate = limit if gate > limit else gate
    up = limit if up > limit else up
    up = -limit if up < -limit else up
    return gate * logistic(gate) * up * share
