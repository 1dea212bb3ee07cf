"""Weighted cross entropy over a vocabulary without keeping all logits.

Contract: `cross_entropy(x [R, D], head [V, D], targets [R] int64, weights [R]) -> (loss_sum, correct [R] bool)`:
loss_sum = sum_r weights_r * -log softmax(x_r head^T)[targets_r] in FP32, logits computed in chunks and recomputed in
the backward pass; `correct` says whether the arg max is the target. R = 0 gives 0. Not in place.
"""

from octavo.kernels.cross_entropy.ref import cross_entropy

__all__ = ["cross_entropy"]
