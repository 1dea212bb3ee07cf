"""How results are written to stdout: one JSON object, or lines for people. Covers the writing, not what is said."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from octavo.engine.answer import Source


def put_json(value: Any) -> None:
    """Write `value` as one line of JSON, non-ASCII text kept as it is."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")


def put(*lines: str) -> None:
    """Write lines for people."""
    for line in lines:
        sys.stdout.write(line + "\n")


def size(num_bytes: float) -> str:
    """Bytes in decimal units with three significant figures: 999 B, 1.23 kB, 3.69 GB."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(num_bytes) < 999.5:
            return f"{num_bytes:.3g} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.3g} TB"


def one_line(text: str, width: int = 96) -> str:
    """`text` with its white space folded and its end cut at `width` characters."""
    text = " ".join(text.split())
    return text if len(text) <= width else text[: width - 1] + "…"


def source_lines(sources: Iterable[Source]) -> list[str]:
    """A line for each place of an answer: its share, file and characters, and the beginning of its text."""
    return [f"  {s.weight:>4.0%}  {s.file}:{s.start}-{s.end}  {one_line(s.text)}" for s in sources]
