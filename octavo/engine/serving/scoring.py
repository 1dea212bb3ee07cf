"""How likely a model found a token, and what it would rather have said.

Covers: log-probabilities of one step, and of a prompt as it is read. Does not cover: when they are asked for (`job`),
drawing a token (`octavo.engine.sampler`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from octavo.config.errors import UsageError
from octavo.engine.sampler import refuse_nan
from octavo.engine.serving.events import Token
from octavo.text.tokenizer import Tokenizer


def scored(logits_V: Tensor, token: int, top: int, tokenizer: Tokenizer) -> Token:
    """`token` with its natural log-probability and rank under the unmodified logits [V] of any floating dtype and
    device, and the `top` likeliest tokens, likeliest first (equals: the lower id first).

    Computed on CPU in FP64. Ids that the model has and the tokenizer has not count in the sum and have no bytes.
    Raises UsageError for a token outside the logits, CheckpointError for NaN among them.
    """
    if not 0 <= token < len(logits_V):
        raise UsageError(f"token is {token}; the logits have {len(logits_V)} entries")
    logits = logits_V.detach().to("cpu", torch.float64)
    refuse_nan(float(logits.max()))
    chances = logits - logits.logsumexp(0)
    best = tuple((one, _bytes(tokenizer, one), float(chances[one])) for one in _likeliest(logits, top))
    rank = int((logits > logits[token]).sum()) + 1
    return Token(id=token, text=_bytes(tokenizer, token), logprob=float(chances[token]), rank=rank, top=best)


class PromptScores:
    """The tokens of one prompt, scored a stretch at a time."""

    def __init__(self, prompt: Sequence[int], top: int, tokenizer: Tokenizer) -> None:
        """`top`: as for `scored`."""
        self._prompt, self._top, self._tokenizer = prompt, top, tokenizer
        self.tokens = [Token(id=prompt[0], text=_bytes(tokenizer, prompt[0]))]

    def take(self, logits_RV: Tensor) -> None:
        """The next rows [R, V]: row r says what comes behind the prompt's token number `len(tokens) - 1 + r`; that of
        its last token is left aside."""
        first = len(self.tokens)
        for logits_V, token in zip(logits_RV.cpu(), self._prompt[first : first + len(logits_RV)], strict=False):
            self.tokens.append(scored(logits_V, token, self._top, self._tokenizer))


def _likeliest(logits: Tensor, top: int) -> list[int]:
    """Ids of the `top` largest; a sort of the few that reach the last of them, since topk leaves ties in any order."""
    count = min(top, len(logits))
    if count <= 0:
        return []
    least = logits.topk(count).values[-1]
    ids = (logits >= least).nonzero()[:, 0]
    order = logits[ids].argsort(descending=True, stable=True)
    return ids[order][:count].tolist()


def _bytes(tokenizer: Tokenizer, token: int) -> bytes:
    return tokenizer.token_bytes(token) if token < tokenizer.vocab_size else b""
