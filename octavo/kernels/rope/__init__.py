"""Rotary position embedding on adjacent channel pairs of the last P channels.

Contract: `rope_table(positions [...], inv_freq [P/2]) -> (cos, sin)` each [..., P/2]; angles are formed in FP64 so that
positions up to 2^20 keep their phase, then stored in FP32 (FP64 when `inv_freq` is FP64 and `wide`).
`rotate(x [..., N], cos, sin, inverse=False) -> [..., N]`: channels 0..N-P-1 pass unchanged, pair (2i, 2i+1) of the last
P channels turns by the angle i; cos and sin broadcast against x's leading dimensions; `inverse` turns back. Arithmetic in
FP32, one rounding to x's dtype. `inverse_frequencies(base, dims, yarn)` gives w_i = base^(-2i/P), blended by YaRN's ramp when
parameters are given (architecture: YaRN without amplitude factor). Not in place.
"""

from octavo.kernels.rope.ref import inverse_frequencies, rope_table, rotate

__all__ = ["inverse_frequencies", "rope_table", "rotate"]
