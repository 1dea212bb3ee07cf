"""The clipped objective of GRPO over tokens.

Covers: ratio and clip, the divergence from a reference, how tokens of long and short answers weigh, what a step
reports. Does not cover: advantages, log-probabilities. Sources: Schulman et al. 2017, "Proximal policy optimization"
(arXiv 1707.06347), equation 7; Shao et al. 2024, "DeepSeekMath" (arXiv 2402.03300), equations 3 and 4; Yu et al. 2025,
"DAPO" (arXiv 2503.14476), equation 8 for weights by token and two limits of the clip.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

import torch
from torch import Tensor

from octavo.config.errors import ConfigError


class Normalise(StrEnum):
    """What the sum over tokens is divided by.

    TOKENS: all tokens of the step, so each counts alike (DAPO, section 3.3): under the mean of each answer a long wrong
    answer costs no more than a short one. ANSWERS: each answer's own tokens, then the number of answers (DeepSeekMath).
    CONSTANT: the longest answer allowed, times the number of answers (Liu et al. 2025, arXiv 2503.20783).
    """

    TOKENS = "tokens"
    ANSWERS = "answers"
    CONSTANT = "constant"


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """clip_low, clip_high: the ratio counts from 1 - low to 1 + high. kl: weight of the divergence from the reference;
    0 needs no reference. normalise: see there. by_spread: advantages are divided by their group's spread. most_weight:
    limit of the weight that corrects for an engine that rounds otherwise than training.

    Raises ConfigError for a limit that is out of range.
    """

    clip_low: float = 0.2
    clip_high: float = 0.2
    kl: float = 0.0
    normalise: Normalise = Normalise.TOKENS
    by_spread: bool = True
    most_weight: float = 2.0

    def __post_init__(self) -> None:
        ranges = {"clip_low": (0.0, 1.0), "clip_high": (0.0, 10.0), "kl": (0.0, 100.0), "most_weight": (1.0, 1000.0)}
        for name, (low, high) in ranges.items():
            if not low <= getattr(self, name) <= high:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be from {low:g} to {high:g}")


class Told(NamedTuple):
    """Sums over tokens, detached: tokens, clipped ones, the divergence from the reference, and the largest ratio."""

    tokens: Tensor
    clipped: Tensor
    divergence: Tensor
    most_ratio: Tensor


def token_weights(lengths: Sequence[int], rule: Normalise, *, max_tokens: int) -> list[float]:
    """The weight of each token of answers of these lengths, by answer; they belong to one step."""
    if rule is Normalise.TOKENS:
        return [1.0 / max(sum(lengths), 1)] * len(lengths)
    if rule is Normalise.ANSWERS:
        return [1.0 / (max(n, 1) * len(lengths)) for n in lengths]
    return [1.0 / (max_tokens * len(lengths))] * len(lengths)


def loss(
    new_T: Tensor, old_T: Tensor, advantage_T: Tensor, weight_T: Tensor, rules: Objective,
    reference_T: Tensor | None = None,
) -> tuple[Tensor, Told]:  # fmt: skip
    """minus sum_t w_t (min(r_t A_t, clip(r_t) A_t) - kl d_t), with r = exp(new - old) and
    d = exp(ref - new) - (ref - new) - 1.

    new, old, reference: log-probabilities of the answers' tokens [T]; gradients flow through `new` alone. At new = old
    the gradient is that of REINFORCE: minus sum_t w_t A_t grad new_t.
    """
    ratio = (new_T - old_T).exp()
    held = ratio.clamp(1.0 - rules.clip_low, 1.0 + rules.clip_high)
    gain = torch.minimum(ratio * advantage_T, held * advantage_T)
    apart = torch.zeros_like(new_T)
    if reference_T is not None:
        log_ratio = reference_T - new_T
        apart = log_ratio.exp() - log_ratio - 1.0
    total = -(weight_T * (gain - rules.kl * apart)).sum()
    with torch.no_grad():
        told = Told(
            tokens=torch.tensor(float(len(new_T)), device=new_T.device), clipped=(gain < ratio * advantage_T).sum(),
            divergence=apart.sum(), most_ratio=ratio.max() if len(ratio) else ratio.new_zeros(()),
        )  # fmt: skip
    return total, told
