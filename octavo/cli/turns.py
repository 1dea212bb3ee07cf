"""What the user says in a conversation: lines of standard input. Covers hearing them, not what answers."""

from __future__ import annotations

import sys
from collections.abc import Iterator


def turns() -> Iterator[str]:
    """Lines of standard input that are not blank, stripped; on a terminal with a mark on stderr."""
    return (line.strip() for line in iter(_line, "") if line.strip())


def _line() -> str:
    print("> " if sys.stdin.isatty() else "", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline()
