"""What each token of a byte-level vocabulary looks like: its bytes, and marks by which numpy scans token arrays.

Covers: reading a tokenizer.json, tables over the vocabulary, decoding. Does not cover: encoding, sentences.
"""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path

import numpy as np

_ENDS = re.compile(r"[.!?][\"'”’)\]_*]*$")
_OPENS = re.compile(r"[^\W_a-zß-öø-ÿ]|[\"'“‘]")
_INITIAL = re.compile(r"[A-Z]")
_ABBREVIATIONS = frozenset(
    "mr mrs ms dr st esq capt col gen no vol rev hon prof jr fig p etc".split()  # noqa: SIM905 - a list of words
)


@cache
def _byte_of() -> dict[str, int]:
    """The byte that each sign of the byte-level alphabet stands for (the GPT-2 table)."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table = {chr(b): b for b in plain}
    odd = [b for b in range(256) if b not in set(plain)]
    table.update({chr(256 + n): b for n, b in enumerate(odd)})
    return table


class Vocabulary:
    """Tables over token ids 0 .. size - 1; each bool table is [V].

    newline: holds a line end. blank: holds two. ends: ends a sentence (a mark, maybe quotes). spaced: begins with a
    space. opens: begins with a space and then a capital, digit or quote. word: begins a word (a space, then a letter
    or digit). letter: begins with a letter or digit. abbreviation: a word whose full stop ends no sentence. lower: a
    space and small letters. lower_more: small letters only.
    """

    def __init__(self, pieces: list[bytes], special: dict[str, int]) -> None:
        self.pieces = pieces
        self.special = special
        texts = [piece.decode("utf-8", errors="replace") for piece in pieces]
        marks = set(special.values())

        def table(rule) -> np.ndarray:
            return np.array([i not in marks and bool(t) and bool(rule(t)) for i, t in enumerate(texts)], dtype=bool)

        self.newline = table(lambda t: "\n" in t)
        self.blank = table(lambda t: t.count("\n") > 1)
        self.ends = table(lambda t: _ENDS.search(t.rstrip(" ")))
        self.spaced = table(lambda t: t[0] == " ")
        self.opens = table(lambda t: t[0] == " " and _OPENS.match(t[1:]))
        self.word = table(lambda t: t[0] == " " and len(t) > 1 and t[1].isalnum())
        self.letter = table(lambda t: t[0].isalnum())
        self.abbreviation = table(lambda t: t.strip().lower() in _ABBREVIATIONS or _INITIAL.fullmatch(t.strip()))
        self.lower = table(lambda t: t[0] == " " and t[1:].isalpha() and t[1:].islower() and len(t) > 2)
        self.lower_more = table(lambda t: t.isalpha() and t.islower() and t.isascii())

    @classmethod
    def load(cls, tokenizer_file: Path | str) -> Vocabulary:
        """From a tokenizer.json with a byte-level BPE."""
        document = json.loads(Path(tokenizer_file).read_text("utf-8"))
        special = {token["content"]: int(token["id"]) for token in document["added_tokens"]}
        entries = document["model"]["vocab"]
        size = max(*entries.values(), *special.values()) + 1
        pieces = [b""] * size
        table = _byte_of()
        for text, token in entries.items():
            if text not in special:
                pieces[token] = bytes(table[sign] for sign in text)
        for text, token in special.items():
            pieces[token] = text.encode()
        return cls(pieces, special)

    @property
    def size(self) -> int:
        """Number of ids."""
        return len(self.pieces)

    def text(self, ids: np.ndarray) -> str:
        """Text of a uint16 [T] array; U+FFFD for bytes that are no UTF-8."""
        pieces = self.pieces
        return b"".join([pieces[i] for i in ids.tolist()]).decode("utf-8", errors="replace")
