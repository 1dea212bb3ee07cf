"""The texts of a document and where their tokens lie.

Covers: reading source files, the order of a document (BOS, first text, blank line, second text, ...), and the way back
from tokens to characters of a file. Does not cover: the model, choosing spans (`sources`). Loads no torch.

Offsets are computed from the bytes that each token stands for, so a document needs to keep its token ids only.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from octavo.config.errors import TextError, UsageError
from octavo.text.plain import check_unicode, plain_text
from octavo.text.tokenizer import Tokenizer

SEPARATOR = "\n\n"
STDIN = "-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A text to be read, under the name that its sources will carry."""

    name: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TextEntry:
    """One text of a document: its tokens first_token .. first_token + tokens - 1, and the characters of the whole text
    (of a text that was read in part the tokens are fewer)."""

    name: str
    first_token: int
    tokens: int
    chars: int

    @property
    def stop_token(self) -> int:
        """One past the last token."""
        return self.first_token + self.tokens


def load_text(path: Path) -> Text:
    """The text of a file, or of standard input for `-`, character for character as stored.

    Raises TextError for an empty or binary file and for one that is not UTF-8, naming file and byte; OSError otherwise.
    """
    if str(path) == STDIN:
        return Text(name=STDIN, text=plain_text(sys.stdin.buffer.read(), name="standard input"))
    if path.is_dir():
        raise TextError(f"{path}: is a folder; give the text files themselves")
    if not path.exists():
        raise TextError(f"{path}: no such file")
    return Text(name=str(path), text=plain_text(path.read_bytes(), name=str(path)))


def gather_texts(sources: str | Path | Text | Sequence[str | Path | Text], *, name: str = "text") -> list[Text]:
    """What `LLM.read` was given as texts: a `str` is text itself, a `Path` is a file.

    Raises UsageError for a `str` that names an existing file (it would be read as a text of one line) and for anything
    else; TextError for what cannot be read, and for a name that is not UTF-8, which no document could keep.
    """
    if isinstance(sources, str | Path | Text):
        sources = [sources]
    if not isinstance(sources, Sequence) or not sources:
        raise UsageError(f"read: nothing to read in {sources!r}; give a text, a pathlib.Path, or several of them")
    texts = []
    for place, source in enumerate(sources):
        if isinstance(source, Path):
            texts.append(load_text(source))
        elif isinstance(source, Text):
            texts.append(source)
        elif isinstance(source, str):
            texts.append(_as_text(source, name if len(sources) == 1 else f"{name} {place + 1}"))
        else:
            raise UsageError(f"read: {source!r} is neither a text nor a pathlib.Path")
    for text in texts:
        check_unicode(text.name, name=f"the name {text.name!a}")
        if not text.text:
            raise TextError(f"{text.name}: the text is empty")
        check_unicode(text.text, name=text.name)
    return texts


def _as_text(source: str, name: str) -> Text:
    if 0 < len(source) < 1024 and "\n" not in source and "\0" not in source and Path(source).is_file():
        raise UsageError(f"{source!r} is the name of a file: give pathlib.Path({source!r}) to read that file")
    return Text(name=name, text=source)


class Texts:
    """Token ids of a document, and its table of texts. Never changes.

    `ids` [T] int32 begin with BOS; tokens outside every entry (BOS, separators) belong to no text.
    """

    def __init__(self, ids: np.ndarray, entries: Sequence[TextEntry], tokenizer: Tokenizer) -> None:
        self.ids, self.entries, self.tokenizer = ids, tuple(entries), tokenizer
        self._starts: dict[TextEntry, np.ndarray] = {}

    @classmethod
    def encode(cls, texts: Sequence[Text], tokenizer: Tokenizer) -> Texts:
        """BOS, then the texts with a blank line between two.

        Raises TextError when the tokenizer does not give a text back as it was: its offsets would be wrong.
        """
        ids: list[int] = [tokenizer.special("BOS")]
        gap = tokenizer.encode(SEPARATOR)
        entries: list[TextEntry] = []
        for text in texts:
            if entries:
                ids += gap
            made = tokenizer.encode(text.text)
            entries.append(TextEntry(name=text.name, first_token=len(ids), tokens=len(made), chars=len(text.text)))
            ids += made
        found = cls(np.array(ids, dtype=np.int32), entries, tokenizer)
        for text, entry in zip(texts, entries, strict=True):
            if found.text(entry) != text.text:
                raise TextError(f"{entry.name}: the tokenizer does not give this text back, so offsets would be wrong")
        return found

    def starts(self, entry: TextEntry) -> np.ndarray:
        """Character of the text to which the first byte of each token belongs, [tokens + 1] int64; last: the end."""
        if entry not in self._starts:
            counts, inside = _byte_tables(self.tokenizer)
            ids = self.ids[entry.first_token : entry.stop_token]
            before = np.zeros(len(ids) + 1, dtype=np.int64)
            np.cumsum(counts[ids], out=before[1:])
            before[:-1] -= inside[ids]
            self._starts[entry] = before
        return self._starts[entry]

    def entry_at(self, token: int) -> TextEntry | None:
        """The text that a token belongs to; None for BOS and separators."""
        return next((entry for entry in self.entries if entry.first_token <= token < entry.stop_token), None)

    def passage(self, entry: TextEntry, first: int, stop: int) -> tuple[str, int]:
        """Text of tokens first .. stop - 1 of an entry, widened to whole characters, and the character it starts at."""
        inside = _byte_tables(self.tokenizer)[1]
        first, stop = max(first, entry.first_token), min(stop, entry.stop_token)
        while first > entry.first_token and inside[self.ids[first]]:
            first -= 1
        while stop < entry.stop_token and inside[self.ids[stop]]:
            stop += 1
        text = self.tokenizer.decode(self.ids[first:stop].tolist())
        return text, int(self.starts(entry)[first - entry.first_token])

    def text(self, entry: TextEntry) -> str:
        """The whole text of an entry."""
        return self.passage(entry, entry.first_token, entry.stop_token)[0]


def whole_characters(ids: np.ndarray, tokenizer: Tokenizer) -> int:
    """How many of `ids` [n], the beginning of a text, can be kept so that the last one does not end in a character."""
    count = len(ids)
    while count:
        data = b"".join(tokenizer.token_bytes(int(token)) for token in ids[max(0, count - 4) : count])
        head = next((byte for byte in reversed(data) if byte & 0xC0 != 0x80), 0)  # the last character's first byte
        length = 1 + (head >= 0xC0) + (head >= 0xE0) + (head >= 0xF0)
        if data.rfind(bytes([head])) + length <= len(data):
            return count
        count -= 1
    return 0


@lru_cache(maxsize=4)
def _byte_tables(tokenizer: Tokenizer) -> tuple[np.ndarray, np.ndarray]:
    """By token id: characters that begin in it [V], and 1 where its first byte continues a character [V]."""
    pieces = [tokenizer.token_bytes(token) for token in range(tokenizer.vocab_size)]
    counts = [sum(byte & 0xC0 != 0x80 for byte in piece) for piece in pieces]
    inside = [bool(piece) and piece[0] & 0xC0 == 0x80 for piece in pieces]
    return np.array(counts, dtype=np.int64), np.array(inside, dtype=np.int64)
