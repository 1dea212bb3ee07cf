"""Expert routing: sqrt(softplus) scores, top-A selection, renormalised weights.

Contract: `route(x [T, D], gate [X, D], *, top, scale, normalise, bias=None [X], table_rows=None [T, A])
-> Routing(experts [T, A] int64, weights [T, A], scores [T, X])`, all arithmetic at least FP32. Without `table_rows`
the A largest of scores + bias are taken (ties: lower expert first); with it the given experts are used and the bias is
ignored. The bias never enters the weights. softplus is the stable form, and the weight sum is floored at 1e-20, so
scores that underflow give zeros, not NaN, in the gradient too. T = 0 gives empty results. Not in place.

While training on a GPU the choice of up to 1,024 experts, which has no gradient, is one launch of `triton` instead of a
sort; scores and weights are plain.
"""

from octavo.kernels.route.ref import Routing, route

__all__ = ["Routing", "route"]
