"""Stacked weights of experts as the GPU kernels read them. Covers: `ExpertWeights` and its checks. Does not cover: the
formats themselves (`octavo.kernels.quant`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

ExpertFormat = Literal["bf16", "fp8", "fp4"]
_PER_BYTE = {"fp8": 1, "fp4": 2}


@dataclass(frozen=True, kw_only=True)
class ExpertWeights:
    """w1 (gate) and w3 (up) [X, F, D] and w2 (down) [X, D, F] of X experts, contiguous.

    "bf16": plain values in the activations' dtype, no scales. "fp8": e4m3 (uint8 or float8_e4m3fn) with e8m0 bytes s
    [X, ceil(out / 128), in / 128]. "fp4": packed pairs (int8 or uint8) [X, out, in / 2] with e8m0 bytes s [X, out, in /
    32]. D and F are multiples of 128 in the small formats and of 16 otherwise. ValueError for anything else.
    """

    format: ExpertFormat
    w1: Tensor
    w3: Tensor
    w2: Tensor
    s1: Tensor | None = None
    s3: Tensor | None = None
    s2: Tensor | None = None
    found: dict[tuple[str, ...], Tensor] = field(default_factory=dict, init=False, repr=False, compare=False)
    """What a body works out of the weights once, which must not change afterwards."""

    def __post_init__(self) -> None:
        if self.format not in ("bf16", "fp8", "fp4"):
            raise ValueError(f"format is {self.format!r}; it must be bf16, fp8 or fp4")
        X, F, D = self.shape
        step = 16 if self.format == "bf16" else 128
        if F % step or D % step:
            raise ValueError(f"w1 is of {F} rows and {D} channels; {self.format} needs multiples of {step}")
        for name, out, width in (("1", F, D), ("3", F, D), ("2", D, F)):
            w, s = getattr(self, f"w{name}"), getattr(self, f"s{name}")
            _require(f"w{name}", w, (X, out, width // _PER_BYTE.get(self.format, 1)))
            if self.format == "bf16":
                if s is not None or w.dtype != self.w1.dtype or not w.is_floating_point():
                    raise ValueError(f"w{name} is {w.dtype}; bf16 needs one floating dtype and no scales")
                continue
            if w.element_size() != 1:
                raise ValueError(f"w{name} is {w.dtype}; {self.format} is stored as bytes")
            if s is None or s.element_size() != 1:
                raise ValueError(f"s{name} is {s if s is None else s.dtype}; {self.format} needs e8m0 bytes")
            tall, wide = (128, 128) if self.format == "fp8" else (1, 32)
            _require(f"s{name}", s, (X, -(-out // tall), width // wide))

    @property
    def shape(self) -> tuple[int, int, int]:
        """X, F, D."""
        X, F = self.w1.shape[:2]
        return X, F, self.w2.shape[1]

    @property
    def dense(self) -> bool:
        """Whether the weights are plain values."""
        return self.format == "bf16"

    def up(self) -> tuple[Tensor, Tensor, int, int]:
        """w1 and s1 as the kernels load them (values or words of four bytes; scale bytes, or anything where there are
        none) and how many elements behind them w3 and s3 begin: the compiler can follow one base address."""
        (w1, s1), (w3, s3) = self._loaded(self.w1, self.s1), self._loaded(self.w3, self.s3)
        return w1, s1, _gap(w1, w3), _gap(s1, s3)

    def down(self) -> tuple[Tensor, Tensor]:
        """w2 and s2, likewise."""
        return self._loaded(self.w2, self.s2)

    def _loaded(self, w: Tensor, s: Tensor | None) -> tuple[Tensor, Tensor]:
        return (w, w) if s is None else (w.view(torch.int32), s.view(torch.uint8))

    def bytes_of(self, hit: int) -> int:
        """Bytes of the weights and scales of `hit` experts."""
        tensors = [self.w1, self.w3, self.w2, *[s for s in (self.s1, self.s3, self.s2) if s is not None]]
        return sum(t.numel() * t.element_size() for t in tensors) // self.w1.shape[0] * hit


def _require(name: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
    if tuple(tensor.shape) != shape or not tensor.is_contiguous():
        raise ValueError(f"{name} is {list(tensor.shape)}; it must be contiguous, {list(shape)}")


def _gap(one: Tensor, other: Tensor) -> int:
    elements, rest = divmod(other.data_ptr() - one.data_ptr(), one.element_size())
    if rest:
        raise ValueError(f"w1 and w3 lie {rest} bytes off a whole element from each other; align both")
    return elements
