"""The weights that one operation takes, looked up once.

Covers: `Pack`, weights by place: as tensors, and for loops on the CPU as arrays. Does not cover: which weights.

An operation of one token takes microseconds. Finding twenty weights in their modules and wrapping each for a loop takes
longer than the loop; so the arrays are kept for as long as every weight stays where it is in memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

_LARGE = 1 << 22  # numbers in all weights from which single operations, which share them among threads, are faster

Place = tuple[Mapping[str, Any], str]


class Pack:
    """Weights at `places`, each a mapping and a key: the parameters of a module, which may be replaced at any time."""

    def __init__(self, *places: Place) -> None:
        self._places = places
        self._at: list[int] = []
        self._arrays: tuple[np.ndarray, ...] | None = None

    @classmethod
    def of(cls, *weights: Tensor) -> Pack:
        """A pack of these tensors."""
        return cls(*[({"weight": weight}, "weight") for weight in weights])

    def tensors(self) -> tuple[Tensor, ...]:
        """The weights as they are now."""
        return tuple([holder[name] for holder, name in self._places])

    def arrays(self) -> tuple[np.ndarray, ...] | None:
        """The weights as arrays of the same memory; None unless all are contiguous FP32 on the CPU, and together small
        enough for one thread."""
        at = [holder[name].data_ptr() for holder, name in self._places]
        if at != self._at or self._arrays is None:  # an array keeps its memory, so a new weight has a new address
            weights = self.tensors()
            plain = all(w.is_cpu and w.dtype == torch.float32 and w.is_contiguous() for w in weights)
            plain = plain and sum(w.numel() for w in weights) < _LARGE
            self._arrays = tuple([w.detach().numpy() for w in weights]) if plain else None
            self._at = at
        return self._arrays

    def __getstate__(self) -> tuple[Place, ...]:
        return self._places  # copies look their weights up themselves

    def __setstate__(self, places: tuple[Place, ...]) -> None:
        self._places, self._at, self._arrays = places, [], None
