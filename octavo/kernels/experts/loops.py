"""Routed experts of a handful of tokens: each chosen expert's weights are read where they lie. FP32, no gradient."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from octavo.kernels import native
from octavo.kernels.compiled import part
from octavo.kernels.linear.loops import dot


def chosen_only(
    x: Tensor, w1: Tensor, w3: Tensor, w2: Tensor, *, chosen: Tensor, weights: Tensor, limit: float | None
) -> Tensor:
    """See the package docstring for the contract; nothing is rounded on the way."""
    if native.library() is not None and w1.is_contiguous() and w3.is_contiguous() and w2.is_contiguous():
        made = torch.zeros(x.shape)
        for t, (listed, shares) in enumerate(zip(chosen.tolist(), weights.tolist(), strict=True)):
            for e, share in zip(listed, shares, strict=True):
                add_expert(x[t], w1[e], w3[e], w2[e], share=share, limit=limit, out=made[t])
        return made
    out = np.zeros(tuple(x.shape), dtype=np.float32)
    listed_experts(
        x.contiguous().numpy(), w1.numpy(), w3.numpy(), w2.numpy(), chosen.numpy(), weights.contiguous().numpy(),
        np.float32(math.inf if limit is None else limit), out,
    )  # fmt: skip
    return torch.from_numpy(out)


def mlp(x: Tensor, w1: Tensor, w3: Tensor, w2: Tensor, *, limit: float | None) -> Tensor:
    """See the package docstring for the contract; nothing is rounded on the way."""
    if native.library() is not None and w1.is_contiguous() and w3.is_contiguous() and w2.is_contiguous():
        made = torch.zeros(x.shape)
        for t in range(len(x)):
            add_expert(x[t], w1, w3, w2, share=1.0, limit=limit, out=made[t])
        return made
    out = np.zeros(tuple(x.shape), dtype=np.float32)
    bound = np.float32(math.inf if limit is None else limit)
    everyone(x.contiguous().numpy(), w1.numpy(), w3.numpy(), w2.numpy(), bound, out)
    return torch.from_numpy(out)


def add_expert(
    x: Tensor, w1: Tensor, w3: Tensor, w2: Tensor, *, share: float, limit: float | None, out: Tensor
) -> None:
    """Add one expert's output for one token x [D] to out [D] in compiled code, which must be there;
    `out` is contiguous."""
    library, bound = native.called(), math.inf if limit is None else limit
    given = [tensor.contiguous() for tensor in (x, w1, w3, w2)]
    assert out.is_contiguous()
    library.octavo_step_expert(
        torch.get_num_threads(), x.numel(), w1.shape[0], bound, share, *[tensor.data_ptr() for tensor in given],
        out.data_ptr(),
    )  # fmt: skip


@part
def _expert(x, w1, w3, w2, weight, limit, hidden, out):
    """Add one expert's output for one token."""
    for f in range(len(w1)):
        gate, up = min(dot(w1[f], x), limit), max(min(dot(w3[f], x), limit), -limit)
        hidden[f] = gate / (np.float32(1.0) + np.float32(math.exp(-gate))) * up * weight
    for d in range(len(w2)):
        out[d] += dot(w2[d], hidden)


@part
def listed_experts(x, w1, w3, w2, chosen, weights, limit, out):
    """Add the chosen experts' outputs to `out` [T, D]."""
    hidden = np.empty(w1.shape[1], dtype=np.float32)
    for t in range(len(x)):
        for a in range(chosen.shape[1]):
            e = chosen[t, a]
            _expert(x[t], w1[e], w3[e], w2[e], weights[t, a], limit, hidden, out[t])


@part
def everyone(x, w1, w3, w2, limit, out):
    """Add the output of one expert for every token to `out` [T, D]."""
    hidden = np.empty(len(w1), dtype=np.float32)
    for t in range(len(x)):
        _expert(x[t], w1, w3, w2, np.float32(1.0), limit, hidden, out[t])
