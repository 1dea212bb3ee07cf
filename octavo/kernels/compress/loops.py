"""Raw rows of a compressor as a loop over tokens, on the CPU: FP32, no gradient."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from octavo.kernels.compiled import loop


def place(projected: Tensor, bias: Tensor, *, first: int) -> Tensor:
    """See the package docstring for the contract."""
    out = np.empty(tuple(projected.shape), dtype=np.float32)
    _place(projected.contiguous().numpy(), bias.numpy(), first, out)
    return torch.from_numpy(out)


@loop
def _place(projected, bias, first, out):
    B, S, both = projected.shape
    ratio, width = bias.shape
    for b in range(B):
        for s in range(S):
            row = bias[(first + s) % ratio]
            for n in range(both - width):
                out[b, s, n] = projected[b, s, n]
            for n in range(width):
                at = both - width + n
                out[b, s, at] = projected[b, s, at] + row[n]
