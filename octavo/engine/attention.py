"""How much attention each token of a document received while an answer was made.

Covers: summing the mass that the model reports by compressed entry, and spreading it over tokens. Does not cover:
choosing spans (`sources`). Loads no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from octavo.config.model import CSA_RATIO, ModelConfig

if TYPE_CHECKING:
    from octavo.model.block import BlockReport


@dataclass(frozen=True, slots=True, kw_only=True)
class MassRule:
    """What counts, and how much.

    layers: layers that count; None for all. hca: weight of mass on HCA blocks against mass on CSA entries. question:
    weight of the step that reads the question's last token (it makes the answer's first token) against the steps that
    read answer tokens. before: share of a CSA entry's mass that goes to the four tokens before its own four.
    """

    layers: tuple[int, ...] | None = None
    hca: float = 1.0
    question: float = 1.0
    before: float = 0.5


class MassTally:
    """Sums of attention probability by entry over steps, as a mean over heads and layers; the window's is left out.

    Holds one number for every four document tokens, and adds only what a step reports.
    """

    def __init__(self, config: ModelConfig, tokens: int, rule: MassRule) -> None:
        """`tokens`: length of the document; entries beyond it are ignored."""
        self.rule, self.tokens = rule, tokens
        counted = [
            layer
            for layer, ratio in enumerate(config.layer_ratios)
            if ratio and (rule.layers is None or layer in rule.layers)
        ]
        self._layers = frozenset(counted)
        self._scale = 1.0 / (config.num_attention_heads * max(1, len(counted)))
        self._entries = {r: np.zeros(-(-tokens // r) + 1) for r in {config.layer_ratios[layer] for layer in counted}}
        self.steps = 0

    def add(self, reports: Sequence[BlockReport], *, question: bool = False) -> None:
        """Add the mass of the last row of a step of one sequence."""
        weight = self._scale * (self.rule.question if question else 1.0)
        self.steps += 1
        for layer in self._layers:
            for mass in reports[layer].mass:
                entries = self._entries[mass.ratio]
                values = mass.values[0, -1].double().cpu().numpy() * weight
                if mass.index is None:
                    n = min(len(values), len(entries))
                    entries[:n] += values[:n]
                else:
                    index = mass.index[0, -1].cpu().numpy()
                    known = (index >= 0) & (index < len(entries))
                    np.add.at(entries, index[known], values[known])

    def weights(self) -> np.ndarray:
        """Weight of each document token, [tokens] float64.

        Entry w of ratio r covers tokens r w .. r w + r - 1 in equal parts; a CSA entry is pooled from the four tokens
        before as well. What falls beyond the document is dropped.
        """
        total = np.zeros(self.tokens)
        for ratio, entries in self._entries.items():
            if ratio == CSA_RATIO:
                cells = entries * (1 - self.rule.before)
                cells[:-1] += entries[1:] * self.rule.before
                cells[0] += entries[0] * self.rule.before
            else:
                cells = entries * self.rule.hca
            total += np.repeat(cells / ratio, ratio)[: self.tokens]
        return total
