"""Training with the weights that will ship: rounded in the forward and backward pass, in full in the optimiser.

Covers: `RoundedWeights`, which lends a model its rounded weights for a step. Does not cover: the formats
(`octavo.kernels.quant`), files (`octavo.model.checkpoint`).

The gradient at the rounded weights is taken as that of the full ones (straight-through estimator, as in quantisation-
aware training of V4's experts; report, section on FP4): small updates add up in the full weights until a value rounds
differently.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from octavo.config.counts import stored_tensors
from octavo.config.model import ModelConfig
from octavo.config.tensors import Storage
from octavo.kernels.quant import fp8_round_blocks, simulate_fp4
from octavo.model.checkpoint import WritePlan
from octavo.model.checkpoint.names import split_experts

_FORMATS = {Storage.FP8.value: fp8_round_blocks, Storage.FP4.value: simulate_fp4}


class RoundedWeights:
    """The parameters of `model` (whole ones, on one device) that `plan` stores in FP8 or FP4, grouped by shape."""

    def __init__(self, model: nn.Module, config: ModelConfig, plan: WritePlan) -> None:
        table = stored_tensors(plan.applied(config))
        self._groups: dict[tuple[str, torch.Size], list[nn.Parameter]] = {}
        for name, parameter in model.named_parameters():
            tag = table[split_experts(name, config.n_routed_experts)[0]][0]
            if tag in _FORMATS and parameter.requires_grad:
                self._groups.setdefault((tag, parameter.shape), []).append(parameter)

    @contextmanager
    @torch.no_grad()
    def lent(self) -> Iterator[None]:
        """Within, the parameters hold their rounded values; afterwards, also behind an error, their own again."""
        kept: list[tuple[nn.Parameter, Tensor]] = []
        try:
            for (tag, _), members in self._groups.items():
                full = torch.stack([p.detach() for p in members])
                for parameter, value in zip(members, _FORMATS[tag](full), strict=True):
                    kept.append((parameter, parameter.data))
                    parameter.data = value.to(parameter.dtype)
            with torch.enable_grad():
                yield
        finally:
            for parameter, value in kept:
                parameter.data = value
