"""A place in a document as `octavo inspect --fold` shows it.

Covers: the place as written, opening the document with its model, the strip of an entry's tokens. Does not cover:
computing shares (`octavo.engine.fold`).

An entry is a heading, then its tokens, each with a bar for its share against the entry's largest; those that it kept
most of stand in brackets.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from octavo.cli.documents import is_document
from octavo.config.errors import UsageError

if TYPE_CHECKING:
    from octavo.engine.fold import FoldEntry, FoldToken

_BARS = "▁▂▃▄▅▆▇█"
_NAMED = 8  # entries of up to so many tokens show every token's percent
_TOP = 6  # tokens of a longer entry that do
_WIDTH = 100


def fold_of(path: str, place: str, *, model: str | None = None) -> tuple[FoldEntry, ...]:
    """The entries around a place (see `Command.fold` of `inspect`) of the document in a file.

    `model`: None for the one that the document names. Raises UsageError for a file that is no document and a place that
    is none, before a model is loaded; LimitError for a place outside the document.
    """
    if not is_document(path):
        raise UsageError(f"--fold needs a folded document; {path} is none")
    file, is_token, number = _parsed(place)
    import octavo
    from octavo.engine.fold import fold_at, token_at
    from octavo.engine.inspection import inspect_document

    llm = octavo.load(model or inspect_document(Path(path))["model"]["name"])
    with llm.open(path) as document:
        return fold_at(document, number if is_token else token_at(document.texts, number, file))


def _parsed(place: str) -> tuple[str | int, bool, int]:
    """File (0: the first), whether a token is meant, and the number."""
    file, _, number = place.rpartition(":")
    is_token = not file and number.startswith("t")
    digits = number[is_token:]
    if not (digits.isascii() and digits.isdigit()):
        raise UsageError(f"--fold is {place!r}; it must be a character as 1000 or FILE:1000, or a token as t1000")
    return file or 0, is_token, int(digits)


def fold_lines(entries: Iterable[FoldEntry]) -> list[str]:
    """The lines of `octavo inspect --fold`."""
    lines: list[str] = []
    layer = None
    for entry in entries:
        if entry.layer != layer:
            layer = entry.layer
            lines += ["", f"layer {layer}: {entry.ratio} tokens an entry"]
        lines += _entry(entry)
    return lines[1:] or ["no entry is complete here: these tokens are still in the window as they are"]


def _entry(entry: FoldEntry) -> list[str]:
    count = 2 if len(entry.tokens) <= _NAMED else _TOP
    top = sorted(entry.tokens, key=lambda token: (-token.share, token.token))[:count]
    most, held = top[0].share, {token.token for token in top}
    parts = [_part(token, most, token.token in held, len(entry.tokens) <= _NAMED) for token in entry.tokens]
    where = [token for token in entry.tokens if token.file is not None]
    place = f"{where[0].file}:{where[0].start_char}-{where[-1].end_char}" if where else "no text"
    strip = textwrap.wrap(
        " ".join(parts), _WIDTH, initial_indent="    ", subsequent_indent="    ", break_long_words=False
    )
    return [f"  entry {entry.entry}  tokens {entry.first_token}-{entry.tokens[-1].token}  {place}", *strip]


def _part(token: FoldToken, most: float, kept: bool, percent: bool) -> str:
    shown = token.text.replace("\n", "↵").replace("\t", "⇥").replace(" ", "·") or "·"
    bar = _BARS[min(int(token.share / most * len(_BARS)), len(_BARS) - 1)]
    number = f"{token.share:.0%}" if percent or kept else ""
    return f"[{shown}]{bar}{number}" if kept else f"{shown}{bar}{number}"
