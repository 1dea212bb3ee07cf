"""What Ray prints, as lines of the server's log.

Covers: a stream in the place of stdout and stderr. Does not cover: where the log goes (`octavo.server.logs`).

Ray prints what its processes write, a crash of a replica among it, to the streams of the process that started it. On
stdout it would stand beside what the command itself says, on stderr between JSON lines.
"""

from __future__ import annotations

import io
import logging
import re

MAX_LINE = 8192
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_log = logging.getLogger(__name__)


class Heard(io.TextIOBase):
    """A stream whose lines go to the log, at the level of warnings. Safe between threads as `logging` is."""

    def __init__(self) -> None:
        self._rest = ""

    def writable(self) -> bool:
        """Always."""
        return True

    def write(self, text: str) -> int:
        """Log each line that is whole now."""
        *lines, self._rest = (self._rest + _COLOURS.sub("", text)).split("\n")
        self._rest = self._rest[-MAX_LINE:]
        for line in lines:
            if line.strip():
                _log.warning("Ray says", extra={"fields": {"text": line.strip()[:MAX_LINE]}})
        return len(text)
