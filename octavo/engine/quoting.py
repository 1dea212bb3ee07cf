"""Answers that are quotations: every token goes on from a place in the document.

Covers: which tokens may come next, from the places that the answer so far could have been copied from. Does not cover:
choosing among them (`sampler`), the places that are shown (`sources`).

The first token of the answer must stand near the places that the attention of the question's last token fell on; each
later one must follow in the document what the answer quotes so far. A quotation neither begins nor ends inside a word.
A copy that slips (a digit, the end of a rare word) cannot happen then; an answer in words of the model's own cannot
either.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from octavo.config.model import ModelConfig
from octavo.engine.attention import MassRule, MassTally

if TYPE_CHECKING:
    from octavo.model.block import BlockReport


@dataclass(frozen=True, slots=True, kw_only=True)
class QuoteRule:
    """Where a quotation may begin: within `reach` tokens of one of the `places` tokens with most attention, two of
    which are at least `reach` apart; `mass` says what counts as attention. places 0: anywhere. The defaults were chosen
    on documents of 8K and 32K tokens that no published figure uses."""

    places: int = 1
    reach: int = 48
    mass: MassRule = field(default_factory=MassRule)


class Quotation:
    """One answer in the making, quoted from document tokens `ids` [T]; `ends` may come after its first token.

    inside(places) says of places [n] in 0 .. T whether a word goes on across them (`WordBorders`): there no quotation
    begins or ends.
    """

    def __init__(
        self,
        config: ModelConfig,
        ids: np.ndarray,
        inside: Callable[[np.ndarray], np.ndarray],
        ends: set[int],
        rule: QuoteRule,
    ) -> None:
        self._config, self._ids, self._ends, self._rule = config, np.asarray(ids), sorted(ends), rule
        self._inside = inside
        self._next: np.ndarray | None = None  # places of the tokens that may come next
        self._complete = False  # whether the answer may end here

    @property
    def watches(self) -> bool:
        """Attention says where a quotation begins; behind that the document does."""
        return self._next is None and self._rule.places > 0

    def allowed(self, logits_V: Tensor, reports: Sequence[BlockReport]) -> Tensor:
        """The logits [V] of the tokens that may come next; all others are minus infinity."""
        places = self._begin(reports) if self._next is None else self._next
        self._next = places
        tokens = np.unique(self._ids[places])
        if self._complete or not len(tokens):
            tokens = np.append(tokens, self._ends)
        index = torch.from_numpy(tokens.astype(np.int64)).to(logits_V.device)
        return torch.full_like(logits_V, -torch.inf).index_copy(0, index, logits_V[index])

    def push(self, token: int) -> None:
        """Take note of the token that was chosen."""
        assert self._next is not None
        kept = self._next[self._ids[self._next] == token] + 1
        self._complete = not self._inside(kept).all()
        self._next = kept[kept < len(self._ids)]

    def _begin(self, reports: Sequence[BlockReport]) -> np.ndarray:
        """Places [n] where the quotation may begin."""
        length, rule = len(self._ids), self._rule
        anywhere = np.arange(1, length)  # behind the mark at the beginning
        if rule.places == 0:
            return self._borders(anywhere)
        tally = MassTally(self._config, length, rule.mass)
        tally.add(reports, question=True)
        weights = tally.weights()
        near = np.zeros(length, dtype=bool)
        for _ in range(rule.places):
            peak = int(weights.argmax())
            if weights[peak] <= 0:
                break
            low, high = max(1, peak - rule.reach), min(length, peak + rule.reach + 1)
            near[low:high] = True
            weights[low:high] = 0
        places = self._borders(np.flatnonzero(near))
        return places if len(places) else self._borders(anywhere)

    def _borders(self, places: np.ndarray) -> np.ndarray:
        return places[~self._inside(places)]
