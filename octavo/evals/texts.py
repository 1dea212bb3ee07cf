"""Texts that cells are built on: held-out files by path, the plays by name.

Does not cover: which texts were kept out of training (docs/data.md says; the corpus script enforces it).
"""

from __future__ import annotations

from pathlib import Path

from octavo.config.errors import UsageError
from octavo.data.heldout import read_rows
from octavo.data.shakespeare import complete_text

SHAKESPEARE = "shakespeare"


def filler(name: str | Path) -> str:
    """The text called `name`: "shakespeare" (the installed package's plays), or a file: `.jsonl` (also `.gz`, `.xz`)
    with a field `text` in each row, anything else as UTF-8. Raises UsageError naming what cannot be read."""
    return "\n\n".join(texts(name))


def texts(name: str | Path, *, most: int | None = None) -> list[str]:
    """As `filler`, but rows of a `.jsonl` file apart; at most `most` of them, evenly from the first one on."""
    found = _texts(name)
    return found if most is None or most >= len(found) else [found[i * len(found) // most] for i in range(most)]


def _texts(name: str | Path) -> list[str]:
    if name == SHAKESPEARE:
        return [complete_text()]
    path = Path(name)
    if not path.is_file():
        raise UsageError(f"held-out text {str(name)!r} is no file; give one, or {SHAKESPEARE!r} for the plays")
    if ".jsonl" in path.suffixes:
        found = [row["text"].strip() for row in read_rows(path) if "text" in row]
        if not found:
            raise UsageError(f"held-out text {str(name)!r} has no row with a field 'text'")
        return found
    try:
        return [path.read_text("utf-8")]
    except UnicodeDecodeError as error:
        raise UsageError(f"held-out text {str(name)!r} is not UTF-8: byte {error.start}") from None


def works(name: str | Path) -> list[str]:
    """The works that the text called `name` is made of, where it tells them apart: rows of a `.jsonl` file; else none.
    """
    found = texts(name)
    return found if len(found) > 1 else []
