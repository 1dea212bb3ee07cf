"""A spelling that an answer may not hold, however it is cut into tokens.

Covers: which tokens would complete it next, one answer's end so far. Does not cover: grammars (`grammar`), when it is
kept out (`ruling`). Loads no torch.

The marks of tool calls hold a control token. Plain tokens can spell the same characters, and whoever reads the text of
an answer could not tell the two apart.
"""

from __future__ import annotations

from collections.abc import Sequence

from octavo.config.errors import UsageError


class Unsaid:
    """One spelling and a vocabulary. `tokens`: bytes of each id; `apart`: ids that are control tokens, which spell
    nothing. Immutable once made."""

    def __init__(self, tokens: Sequence[bytes], spelling: bytes, *, apart: Sequence[int] = ()) -> None:
        """Raises UsageError for an empty spelling."""
        if not spelling:
            raise UsageError("spelling is empty; it must have at least one byte")
        self.spelling, self._tokens = spelling, tokens
        self._apart = frozenset(apart)
        rests = [spelling[length:] for length in range(1, len(spelling))]
        whole, ends = set[int](), [set[int]() for _ in rests]
        firsts = {rest[0] for rest in rests}
        for id, text in enumerate(tokens):
            if not text or id in self._apart:
                continue
            if spelling in text:
                whole.add(id)
            if text[0] in firsts:
                for found, rest in zip(ends, rests, strict=True):
                    if text.startswith(rest):
                        found.add(id)
        self._whole, self._ends = frozenset(whole), [frozenset(found) for found in ends]

    def completing(self, tail: bytes) -> frozenset[int]:
        """Ids of the tokens that would complete the spelling behind an answer that ends with `tail`."""
        found = self._whole
        for length in range(1, min(len(tail), len(self.spelling) - 1) + 1):
            if tail.endswith(self.spelling[:length]):
                found |= self._ends[length - 1]
        return found

    def after(self, tail: bytes, token: int) -> bytes:
        """The end of the answer once `token` came: as much of it as matters."""
        if token in self._apart:
            return b""
        text = self._tokens[token] if 0 <= token < len(self._tokens) else b""
        return (tail + text)[-len(self.spelling) :]
