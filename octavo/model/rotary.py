"""Rotary tables of the two kinds of layer.

Covers: base and YaRN by layer kind (window layers: `rope_theta`, plain; compressed layers: `compress_rope_theta` with
the configured YaRN, for everything inside the layer). Does not cover: the rotation (`octavo.kernels.rope`).
"""

from __future__ import annotations

import torch
from torch import Tensor

from octavo.config.model import ModelConfig
from octavo.kernels.rope import inverse_frequencies, rope_table

Table = tuple[Tensor, Tensor]


class Rotary:
    """Makes (cos, sin) tables for positions; frequencies are kept per device."""

    def __init__(self, config: ModelConfig) -> None:
        self._config = config
        self._frequencies: dict[tuple[bool, torch.device], Tensor] = {}

    def table(self, positions: Tensor, ratio: int, dtype: torch.dtype) -> Table:
        """cos, sin [..., P / 2] for a layer with compression `ratio`; FP32, or FP64 when `dtype` is FP64."""
        wide = torch.float64 if dtype == torch.float64 else torch.float32
        return rope_table(positions, self.frequencies(ratio, positions.device), dtype=wide)

    def frequencies(self, ratio: int, device: torch.device) -> Tensor:
        """Turns a token of each pair times 2 pi, FP64 [P / 2], of a layer with compression `ratio`."""
        key = (ratio > 0, device)
        if key not in self._frequencies:
            yarn = self._config.rope_yarn(ratio)
            scaling = {}
            if yarn is not None:
                scaling = {
                    "factor": yarn.factor,
                    "original": yarn.original_max_position_embeddings,
                    "beta_fast": yarn.beta_fast,
                    "beta_slow": yarn.beta_slow,
                }
            base, dims = self._config.rope_base(ratio), self._config.qk_rope_head_dim
            made = inverse_frequencies(base=base, dims=dims, **scaling)
            self._frequencies.setdefault(key, made.to(device))  # another thread's addresses stay valid
        return self._frequencies[key]
