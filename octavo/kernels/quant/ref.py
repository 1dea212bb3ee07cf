"""The number formats themselves, and the simulation of them inside a graph.

Covers: exact power-of-two scales, e2m1 rounding and codes, grouped rounding with a straight-through gradient. Does not
cover: stored weights (`weights.py`), cache rows (`rows.py`).
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

E4M3_MAX = 448.0
E2M1_MAX = 6.0
FP8_FLOOR = 1e-4  # smallest group maximum in the graph: keeps the scale of an empty group at 2^-22
FP4_FLOOR = 6 * 2.0**-126
BIAS = 127  # of an e8m0 byte
NAN_BYTE = 255


def scale_exponent(amax: Tensor, largest: float) -> Tensor:
    """ceil(log2(amax / largest)) as int32, exact, at least -127; non-finite amax gives the exponent of NaN, 128."""
    mantissa, exponent = torch.frexp(amax)
    unit_mantissa, unit_exponent = math.frexp(largest)
    exact = exponent - unit_exponent + (mantissa > unit_mantissa).to(exponent.dtype)
    return torch.where(amax.isfinite(), exact.clamp_min(-BIAS), NAN_BYTE - BIAS).to(torch.int32)


def power_of_two(exponent: Tensor) -> Tensor:
    """2^exponent in FP32 for exponents -127 .. 127; 128 gives NaN, as the e8m0 byte 255 does."""
    value = torch.ldexp(torch.ones(exponent.shape, device=exponent.device), exponent.clamp(-BIAS, BIAS))
    return torch.where(exponent > BIAS, torch.nan, value)


def round_e2m1(x: Tensor) -> Tensor:
    """Nearest of 0, .5, 1, 1.5, 2, 3, 4, 6 with x's sign, ties to the even code; larger values saturate at 6."""
    size = x.abs()
    step = torch.where(size < 2, 0.5, torch.where(size < 4, 1.0, 2.0))
    return torch.copysign((torch.round(size / step) * step).clamp_max(E2M1_MAX), x)


def encode_e2m1(x: Tensor) -> Tensor:
    """Four-bit codes (uint8, sign in bit 3) of the values nearest to x."""
    value = round_e2m1(x)
    size = value.abs()
    code = torch.where(size < 2, size * 2, torch.where(size < 4, size + 2, size / 2 + 4))
    return code.to(torch.uint8) | (torch.signbit(value).to(torch.uint8) << 3)


def round_e4m3(x: Tensor) -> Tensor:
    """x [FP32, magnitudes up to 448] as float8_e4m3fn; NaN stays NaN."""
    return x.clamp(-E4M3_MAX, E4M3_MAX).to(torch.float8_e4m3fn)


def group(x: Tensor, size: int) -> Tensor:
    """[..., N] -> FP32 [..., ceil(N / size), size], the last group filled up with zeros."""
    if size < 1:
        raise ValueError(f"group is {size}; it must be at least 1")
    short = -x.shape[-1] % size
    wide = x.float()
    wide = F.pad(wide, (0, short)) if short else wide
    return wide.unflatten(-1, (wide.shape[-1] // size, size))


def group_exponents(grouped: Tensor, *, largest: float, floor: float) -> Tensor:
    """[..., G, size] -> int32 [..., G]: the scale exponent of every group; NaN and infinity give 128."""
    return scale_exponent(grouped.abs().amax(-1).clamp_min(floor), largest)


def simulate_fp8(x: Tensor, group: int = 64) -> Tensor:
    """Round x [..., N] to e4m3 with one scale per `group` channels; see the package docstring."""
    return _Simulate.apply(x, group, False)  # type: ignore[no-any-return]


def simulate_fp4(x: Tensor, group: int = 32) -> Tensor:
    """Round x [..., N] to e2m1 with one scale per `group` channels; see the package docstring."""
    return _Simulate.apply(x, group, True)  # type: ignore[no-any-return]


class _Simulate(torch.autograd.Function):
    """Grouped rounding forward, identity backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, size: int, four_bits: bool) -> Tensor:
        grouped = group(x, size)
        largest, floor = (E2M1_MAX, FP4_FLOOR) if four_bits else (E4M3_MAX, FP8_FLOOR)
        scale = power_of_two(group_exponents(grouped, largest=largest, floor=floor)).unsqueeze(-1)
        ratio = grouped / scale
        rounded = round_e2m1(ratio) if four_bits else round_e4m3(ratio).float()
        return (rounded * scale).flatten(-2)[..., : x.shape[-1]].to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return grads[0], None, None
