"""Stop strings in a text that arrives in pieces.

Covers: finding the first one to be complete, and holding back what may be the beginning of one. Does not cover: stop
tokens (`generation`), half characters (`octavo.text.detokenizer`). Loads no torch.
"""

from __future__ import annotations

from collections.abc import Sequence


class StopScanner:
    """Passes text through until a stop string is complete; no character of a stop string ever comes out.

    The result depends on the text alone, not on how it was cut: the string whose last character comes first ends it,
    and of several that end there the longest counts. `found` is that string, or None.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self.found: str | None = None

    def push(self, text: str) -> str:
        """The text that is certain now to be no part of a stop string; nothing once one was found."""
        if self.found is not None:
            return ""
        text = self._held + text
        ends = [(text.find(stop) + len(stop), -len(stop), stop) for stop in self._stops if stop in text]
        if ends:
            end, _, self.found = min(ends)
            self._held = ""
            return text[: end - len(self.found)]
        held = max((_overlap(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]

    def finish(self) -> str:
        """What was held back: the text ended before a stop string was complete."""
        rest, self._held = self._held, ""
        return rest


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` with which `stop` begins."""
    longest = min(len(text), len(stop) - 1)
    return next((size for size in range(longest, 0, -1) if text.endswith(stop[:size])), 0)
