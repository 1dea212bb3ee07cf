"""Weighted cross entropy over a vocabulary without keeping all logits.

Contract: `cross_entropy(x [R, D], head [V, D], targets [R] int64, weights [R]) -> (loss_sum, correct [R] bool)`:
loss_sum = sum_r weights_r * -log softmax(x_r head^T)[targets_r] in FP32, logits computed `chunk` rows at a time (None:
as many as the body holds); `correct` says whether the arg max is the target. R = 0 gives 0. Not in place.

Bodies: `ref` computes a chunk's logits again in the backward pass. `triton` makes the gradients of x and head while it
has the logits (training on a GPU; BF16, FP16 or FP32), so a second backward pass over them raises.
"""

from __future__ import annotations

from torch import Tensor

from octavo.kernels import dispatch
from octavo.kernels.cross_entropy import ref


def cross_entropy(
    x: Tensor, head: Tensor, targets: Tensor, weights: Tensor, *, chunk: int | None = None
) -> tuple[Tensor, Tensor]:
    """See the package docstring for the contract."""
    if dispatch.trains_in_triton(x, "cross_entropy") and x.dtype in dispatch.TRITON_FLOATS and len(head):
        from octavo.kernels.cross_entropy import triton  # there where a GPU is

        return triton.cross_entropy(x, head, targets, weights, chunk=chunk)
    return ref.cross_entropy(x, head, targets, weights, **({} if chunk is None else {"chunk": chunk}))


__all__ = ["cross_entropy"]
