"""From logits to one token.

Covers: greedy choice, temperature, top-k, top-p, min-p, with a random generator of its own for every request, so that a
seed gives the same tokens whatever else runs. Does not cover: checking the values (`request`).
"""

from __future__ import annotations

import secrets
from typing import NamedTuple

import torch
from torch import Tensor

from octavo.config.errors import CheckpointError
from octavo.engine.request import MAX_SEED, Request


class Top(NamedTuple):
    """The likeliest token, its logit, and the largest logit of the others."""

    token: int
    best: float
    second: float


def tops(logits_RV: Tensor) -> list[Top]:
    """Of each row of logits [R, V] (any floating dtype and device; of equals the lowest id), read at once. Raises
    CheckpointError for NaN among them."""
    best, token = logits_RV.max(-1)
    second = logits_RV.scatter(-1, token.unsqueeze(-1), -torch.inf).amax(-1)
    rows = torch.stack((token.double(), best.double(), second.double()), -1).tolist()
    for row in rows:
        refuse_nan(row[1])
    return [Top(int(token), best, second) for token, best, second in rows]


def refuse_nan(best: float) -> None:
    """Raise CheckpointError where the largest of a row's logits is NaN, which it is if one of them is."""
    if best != best:
        raise CheckpointError("the logits hold NaN: the weights are damaged or the number format is too narrow")


class Sampler:
    """Draws the tokens of one answer; `seed` is the one in use, also where the request left it open."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.seed = secrets.randbelow(MAX_SEED) if request.seed is None else request.seed
        self._generator = torch.Generator().manual_seed(self.seed)

    def pick(self, logits_V: Tensor) -> int:
        """One token id from logits [V] of any floating dtype and device. Raises CheckpointError for NaN among them.

        Temperature 0 takes the likeliest, of equals the lowest id, where the logits are. The draw runs on CPU in FP64:
        one uniform number, looked up in the cumulative distribution of the tokens that are left, likeliest first
        (equals: the lower id first).
        """
        if self.request.temperature == 0:
            return tops(logits_V.detach().unsqueeze(0))[0].token
        logits = logits_V.detach().to("cpu", torch.float64)
        best = logits.max()
        refuse_nan(float(best))
        chances, tokens = self._left(logits - best)
        total = chances.cumsum(0)
        draw = torch.rand(1, generator=self._generator, dtype=torch.float64) * total[-1]
        place = int(torch.searchsorted(total, draw, right=True).clamp(max=len(total) - 1))
        return int(tokens[place])

    def _left(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Probabilities, largest first, and ids of the tokens that the filters leave; at least one."""
        request = self.request
        chances, tokens = torch.softmax(logits / request.temperature, 0).sort(descending=True, stable=True)
        if request.top_k is not None:
            chances, tokens = chances[: request.top_k], tokens[: request.top_k]
        if request.top_p < 1:
            reached = chances.cumsum(0) - chances  # what the likelier ones hold together
            kept = int((reached < request.top_p * chances.sum()).sum())
            chances, tokens = chances[: max(kept, 1)], tokens[: max(kept, 1)]
        kept = int((chances >= request.min_p * chances[0]).sum())
        return chances[:kept], tokens[:kept]
