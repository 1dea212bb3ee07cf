"""Where in a document an answer looked, as a strip of equal bins.

Covers: the sums of a `MassTally` by bin, CSA picks and HCA blocks apart, and the character at which a bin begins. Does
not cover: choosing places (`sources`), drawing. Loads no torch.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from octavo.config.errors import LimitError
from octavo.engine.attention import MassTally
from octavo.engine.texts import Texts

MAX_BINS = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionMap:
    """A document in bins of equal tokens (the last may be shorter, and there are never more bins than tokens).

    csa, hca: attention probability of each bin, summed over steps, a mean over heads and layers. starts: file and
    character at which each bin begins; of a bin that begins between two texts, the next text's first character.
    """

    tokens: int
    csa: tuple[float, ...]
    hca: tuple[float, ...]
    starts: tuple[tuple[str, int], ...]

    def to_dict(self) -> dict[str, Any]:
        """The plain form: equal files of neighbouring bins once, numbers with five significant digits."""
        return {
            "tokens": self.tokens,
            "csa": [float(f"{value:.5g}") for value in self.csa],
            "hca": [float(f"{value:.5g}") for value in self.hca],
            "files": list(dict.fromkeys(file for file, _ in self.starts)),
            "starts": [[file, char] for file, char in self.starts],
        }


def attention_map(tally: MassTally, texts: Texts, bins: int) -> AttentionMap:
    """The tally over `texts` in `bins` bins. LimitError for bins outside 1 .. `MAX_BINS`."""
    edges = _edges(tally.tokens, bins)
    csa = _of_kind(tally, 0.0)
    hca = _of_kind(tally, 1.0) - csa
    return AttentionMap(
        tokens=tally.tokens,
        csa=_sums(csa, edges),
        hca=_sums(np.maximum(hca, 0.0), edges),
        starts=bin_starts(texts, bins),
    )


def bin_starts(texts: Texts, bins: int) -> tuple[tuple[str, int], ...]:
    """File and character at which each bin of a document begins; LimitError as `attention_map`."""
    return tuple(_place(texts, int(token)) for token in _edges(len(texts.ids), bins)[:-1])


def _edges(tokens: int, bins: int) -> np.ndarray:
    if not 1 <= bins <= MAX_BINS:
        raise LimitError(f"bins is {bins}; it must be between 1 and {MAX_BINS}")
    size = max(1, -(-tokens // bins))
    return np.append(np.arange(0, tokens, size), tokens)


def _of_kind(tally: MassTally, hca: float) -> np.ndarray:
    """Weights [tokens] with HCA mass counted `hca` times; the tally stays as it is."""
    other = copy(tally)
    other.rule = replace(tally.rule, hca=hca)
    return other.weights()


def _sums(weights: np.ndarray, edges: np.ndarray) -> tuple[float, ...]:
    before = np.concatenate(([0.0], np.cumsum(weights)))
    return tuple((before[edges[1:]] - before[edges[:-1]]).tolist())


def _place(texts: Texts, token: int) -> tuple[str, int]:
    entry = next((entry for entry in texts.entries if token < entry.stop_token), texts.entries[-1])
    inside = min(max(token - entry.first_token, 0), entry.tokens - 1)
    return entry.name, int(texts.starts(entry)[inside])
