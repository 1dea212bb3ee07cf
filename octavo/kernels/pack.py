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
        self._plain: tuple[int, ...] | None = None
        self._held: tuple[Tensor, ...] = ()

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
        self._look()
        return self._arrays

    def addresses(self) -> tuple[int, ...] | None:
        """Where the weights lie, for compiled code that shares them among threads itself; None unless all are
        contiguous FP32 on the CPU. The same tuple as long as they stay there."""
        self._look()
        return self._plain

    def _look(self) -> None:
        at = [holder[name].data_ptr() for holder, name in self._places]
        if at != self._at or self._plain is None:
            weights = self.tensors()
            plain = all(w.is_cpu and w.dtype == torch.float32 and w.is_contiguous() for w in weights)
            few = plain and sum(w.numel() for w in weights) < _LARGE
            self._arrays = tuple([w.detach().numpy() for w in weights]) if few else None
            # what is held keeps its memory, so that a new weight has a new address
            self._held = tuple([w.detach() for w in weights]) if plain else ()
            self._plain = tuple(at) if plain else None
            self._at = at

    def __getstate__(self) -> tuple[Place, ...]:
        return self._places  # copies look their weights up themselves

    def __setstate__(self, places: tuple[Place, ...]) -> None:
        self.__init__(*places)
