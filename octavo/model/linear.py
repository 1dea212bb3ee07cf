"""Linear maps without bias.

Covers: `Linear` (weight [out, in], product in the input's dtype) with the optional FP8 simulation of its input, and
`pack_of`, the weights of several modules for one operation. Does not cover: quantised storage (`checkpoint`), INT8
codes in the place of the weight (`int8`).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from octavo.kernels.linear import linear
from octavo.kernels.pack import Pack
from octavo.kernels.quant import simulate_fp8

ACTIVATION_GROUP = 128  # channels that share one power-of-two scale in the simulated FP8 input


class Linear(nn.Module):
    """y = x W^T; the weight is cast to x's dtype, so one set of FP32 masters serves BF16 training."""

    def __init__(self, inputs: int, outputs: int, *, simulate: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs))
        self.simulate = simulate

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] -> [..., out]."""
        return linear(round_input(x, self.simulate), self.weight)


def pack_of(*holders: nn.Module) -> Pack:
    """The `weight` of every module, as one operation takes them; a weight may be replaced later."""
    return Pack(*[(holder._parameters, "weight") for holder in holders])


def round_input(x: Tensor, simulate: bool) -> Tensor:
    """The input of an FP8 product as the release rounds it (architecture of the checkpoint, activation format)."""
    return simulate_fp8(x, group=min(ACTIVATION_GROUP, x.shape[-1])) if simulate else x
