"""Which queries of an index of two levels look into some blocks alone, and into how many.

Covers: `Levels`, the rule by which tokens choose among all entries or in two levels, and the names of the fields of a
configuration that it is made of. Does not cover: coarse keys and choosing (`octavo.kernels.index_topk.levels`).
"""

from __future__ import annotations

from dataclasses import dataclass

INDEX_FIELDS = ("index_levels", "index_block_tokens", "index_blocks", "index_from_tokens")
"""What a reading depends on besides the weights: another choice of entries gives other values behind them."""

_BORDER = 16  # tokens: what is behind the last multiple of so many is looked into always (scan.cpp has it too)


@dataclass(frozen=True)
class Levels:
    """`block` tokens share a coarse key (a multiple of the entries' ratio); `best` blocks are looked into. Queries that
    are among the first `after` tokens (a multiple of `border`) choose among all entries."""

    block: int
    best: int
    after: int = 0

    def choose(self, end: int) -> bool:
        """Whether the query of the last token before token `end` looks into some blocks alone."""
        return end > self.after and self.known(end) > self.best

    @property
    def border(self) -> int:
        """Tokens after which coarse keys are asked for that were not known before."""
        return max(self.block, _BORDER)

    @property
    def begin(self) -> int:
        """The least `end` that `choose` is true of; it is of all that are greater."""
        borders = self.best // (self.border // self.block) + 1
        return max(self.after + 1, borders * self.border)

    def known(self, end: int) -> int:
        """Of how many blocks the query of the last token before token `end` ranks the coarse keys."""
        return end // self.border * (self.border // self.block)

    def divides(self, first: int, end: int) -> bool:
        """Whether of the tokens first .. end - 1 some choose among all entries and some do not."""
        return first < self.after < end and self.choose(end)
