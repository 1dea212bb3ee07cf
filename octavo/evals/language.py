"""Bits per byte: how well a model predicts texts, comparable between tokenizers.

Covers: windows of one length with half an overlap, of which only what has at least half a window before it is counted
(but for the beginning of a text, which is counted whole); sums over texts; our models as scorers. Does not cover: what
was kept out of training, other projects' models (`benchmarks.language`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F

from octavo.config.errors import LimitError
from octavo.engine.llm import LLM
from octavo.engine.runner import CHUNK

MIN_WINDOW = 16


class Scorer(Protocol):
    """What predicts tokens: a tokenizer and a model."""

    def encode(self, text: str) -> Sequence[int]:
        """Ids of a text, without any that begins it."""
        ...

    def bits(self, ids: np.ndarray) -> np.ndarray:
        """Bits of each of ids [N] given those before it, FP64 [N]; the first is given what begins a text."""
        ...


@dataclass(frozen=True, kw_only=True)
class TextBits:
    """Bits that a scorer needed for texts of `bytes` UTF-8 bytes and `tokens` tokens, in windows of `window`."""

    bits: float
    bytes: int
    tokens: int
    window: int

    @property
    def bits_per_byte(self) -> float:
        return self.bits / self.bytes if self.bytes else math.nan


class OwnScorer:
    """A loaded model; every window is a sequence of its own behind the token that begins a text."""

    def __init__(self, model: LLM) -> None:
        self._model = model

    def encode(self, text: str) -> Sequence[int]:
        return self._model.tokenizer.encode(text)

    def bits(self, ids: np.ndarray) -> np.ndarray:
        return token_bits(self._model, np.array([self._model.tokenizer.special("BOS"), *ids], dtype=np.int64))


def token_bits(model: LLM, ids: np.ndarray) -> np.ndarray:
    """Bits of every token but the first, FP64 [N - 1], of ids [N] int64 read as one sequence in chunks."""
    state, parts = model.new_state(), []
    try:
        for at in range(0, len(ids), CHUNK):
            logits = model.runner.step(ids[at : at + CHUNK], state, all_rows=True).logits
            following = torch.from_numpy(ids[at + 1 : at + 1 + CHUNK]).to(logits.device)
            parts.append(F.cross_entropy(logits[: len(following)].double(), following, reduction="none").cpu())
    finally:
        state.close()
    return torch.cat(parts).numpy() / math.log(2)


def windows(count: int, size: int) -> Iterator[tuple[int, int, int]]:
    """Begin, end and first counted token of the windows over `count` tokens: every token is counted once."""
    for start in range(0, max(count - size // 2, 1), size // 2):
        yield start, min(start + size, count), start + size // 2 if start else 0


def measure(
    scorer: Scorer, texts: Iterable[str], *, window: int, limit: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> TextBits:  # fmt: skip
    """Bits of all `texts`, each on its own, of each at most its first `limit` characters; `progress` gets the tokens
    counted so far. Raises LimitError for a window under 16 tokens or texts without any token."""
    if window < MIN_WINDOW:
        raise LimitError(f"window is {window}; it must be {MIN_WINDOW} tokens or more")
    bits, size, tokens = 0.0, 0, 0
    for text in texts:
        part = text[:limit]
        ids = np.asarray(scorer.encode(part), dtype=np.int64)
        if not len(ids):
            continue
        for start, stop, counted in windows(len(ids), window):
            bits += float(scorer.bits(ids[start:stop])[counted - start :].sum())
            if progress is not None:
                progress(tokens + stop)
        size, tokens = size + len(part.encode()), tokens + len(ids)
    if not tokens:
        raise LimitError("the texts have no tokens; bits per byte need at least one")
    return TextBits(bits=bits, bytes=size, tokens=tokens, window=window)
