"""Token-level compression: pool groups of G tokens into one entry by a per-channel softmax gate.

Contract: `pool(values [B, n, w], scores [B, n, w], ratio, overlap, has_previous) -> [B, g, K]`, FP32 in and out.
Without overlap w = K and n = g * ratio: entry i is sum over its `ratio` tokens of softmax(scores) * values, the
softmax running over the tokens separately for each channel. With overlap w = 2K: channels 0..K-1 of a token serve the
NEXT group's entry, channels K..2K-1 its own; when `has_previous` the first `ratio` rows are the group before the first
new one (n = (g + 1) * ratio), otherwise the first entry has no previous half (value 0, score -inf). g = 0 gives an
empty result. Not in place.
`place(projected [B, S, 2w], bias [ratio, w], *, first) -> [B, S, 2w]`: row (first + s) % ratio of the bias added to the
scores of token first + s, which stand behind its values.
`pool_placed(raw [B, n, 2w], bias, *, ratio, overlap, has_previous)`: `pool` of what `place` makes of rows that begin a
group, in one function, which a GPU computes in one pass while training. `fresh` [B, g] bool, with overlap: entries that
have no previous half, as the first one.
"""

from octavo.kernels.compress.ref import place, pool, pool_placed

__all__ = ["place", "pool", "pool_placed"]
