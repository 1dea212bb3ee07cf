"""How much better an answer is than the others to the same prompt.

Covers: rewards of groups to advantages, which groups teach nothing. Does not cover: rewards. Source: Shao et al. 2024,
"DeepSeekMath" (arXiv 2402.03300), section 4.1; without the division: Liu et al. 2025, "Understanding R1-Zero-like
training" (arXiv 2503.20783), which finds that it favours prompts that are nearly always, or never, solved.
"""

from __future__ import annotations

import torch
from torch import Tensor

EPSILON = 1e-4


def advantages(rewards_PG: Tensor, *, by_spread: bool = True) -> Tensor:
    """(r - mean) / (std + 1e-4) within each of P groups of G answers, FP64 [P, G]; std over the G answers themselves.

    by_spread False leaves the division out. A group whose rewards are all equal gets zeros.
    """
    rewards = rewards_PG.double()
    centred = rewards - rewards.mean(1, keepdim=True)
    centred = torch.where(told_apart(rewards_PG).unsqueeze(1), centred, 0.0)
    if not by_spread:
        return centred
    return centred / (rewards.std(1, correction=0, keepdim=True) + EPSILON)


def told_apart(rewards_PG: Tensor) -> Tensor:
    """Bool [P]: groups whose rewards differ. The others have no gradient, and their tokens are counted nowhere (Yu et
    al. 2025, "DAPO", arXiv 2503.14476, section 3.2, which draws others in their place; here the step is smaller)."""
    return rewards_PG.amax(1) > rewards_PG.amin(1)
