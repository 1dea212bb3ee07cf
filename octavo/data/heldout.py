"""Keeping text apart: windows of 13 words of held-out texts, and paragraphs seen before.

Covers: reading held-out sets by path, the index of their word windows, dropping of paragraphs that share one, exact
paragraph duplicates. Does not cover: near duplicates, code, or which sets are held out (docs/data.md names them).
"""

from __future__ import annotations

import gzip
import hashlib
import json
import lzma
import re
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from octavo.config.errors import UsageError

WINDOW_WORDS = 13
MIN_DUPLICATE_CHARS = 120
_WORD = re.compile(r"[^\W_]+")
_MULTIPLIER = 0x9E3779B97F4A7C15 | 1
_OPENERS = {".xz": lzma.open, ".gz": gzip.open}


def read_rows(path: Path) -> Iterator[dict]:
    """Rows of a `.jsonl`, `.jsonl.gz` or `.jsonl.xz` file, one object a line."""
    opener = _OPENERS.get(path.suffix, open)
    with opener(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def _strings(value: object) -> Iterator[str]:
    """All strings inside a JSON value, in order."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)


def held_out_texts(path: Path) -> Iterator[str]:
    """Every text of one held-out set: a folder, JSON lines (plain, gz, xz), JSON, the JSON of a wheel, or a text file.

    All string fields of a row count, so questions and answers are guarded as well as contexts.
    Raises UsageError if the path does not exist.
    """
    if not path.exists():
        raise UsageError(f"held-out set {str(path)!r} does not exist")
    if path.is_dir():
        for inner in sorted(p for p in path.rglob("*") if p.is_file()):
            yield from held_out_texts(inner)
    elif ".jsonl" in path.suffixes:
        for row in read_rows(path):
            yield from _strings(row)
    elif path.suffix in {".whl", ".zip"}:
        with zipfile.ZipFile(path) as archive:
            for name in sorted(n for n in archive.namelist() if n.endswith(".json")):
                yield from _strings(json.loads(archive.read(name)))
    elif path.suffix == ".json":
        yield from _strings(json.loads(path.read_text("utf-8")))
    else:
        yield path.read_text("utf-8")


class _Numbers(dict[str, int]):
    """The stable 64-bit number of a word, made when the word is first looked up."""

    def __missing__(self, word: str) -> int:
        value = self[word] = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "little")
        return value


class WordHasher:
    """Maps words to stable 64-bit numbers; the table grows with the vocabulary met."""

    def __init__(self) -> None:
        self._known = _Numbers()

    def words(self, text: str) -> np.ndarray:
        """uint64 [number of words]: letters and digits only, case removed."""
        found = _WORD.findall(text.lower())
        return np.fromiter(map(self._known.__getitem__, found), dtype=np.uint64, count=len(found))

    def __contains__(self, word: str) -> bool:
        """Whether `word`, in small letters, was met so far."""
        return word in self._known


def window_hashes(words: np.ndarray) -> np.ndarray:
    """uint64 [len(words) - 12] (or empty): one polynomial hash modulo 2^64 for each run of 13 words."""
    count = len(words) - WINDOW_WORDS + 1
    if count <= 0:
        return np.empty(0, dtype=np.uint64)
    total = np.zeros(count, dtype=np.uint64)
    for offset in range(WINDOW_WORDS):
        total = total * np.uint64(_MULTIPLIER) + words[offset : offset + count]
    return total


@dataclass(kw_only=True)
class DropCounts:
    """UTF-8 bytes kept out, by reason."""

    held_out: int = 0
    duplicate: int = 0

    def since(self, before: DropCounts) -> DropCounts:
        """What was counted after `before` was copied."""
        return DropCounts(held_out=self.held_out - before.held_out, duplicate=self.duplicate - before.duplicate)


@dataclass(kw_only=True)
class ParagraphFilter:
    """Drops paragraphs that stand in a held-out set or were seen before, over all documents given to `clean`."""

    held_out: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.uint64))
    hasher: WordHasher = field(default_factory=WordHasher)
    counts: DropCounts = field(default_factory=DropCounts)
    _seen: set[bytes] = field(default_factory=set)

    @classmethod
    def from_texts(cls, texts: Iterable[str]) -> ParagraphFilter:
        """Index every 13-word window of `texts`; a window may cross paragraph borders."""
        hasher = WordHasher()
        parts = [window_hashes(hasher.words(text)) for text in texts]
        index = np.unique(np.concatenate(parts)) if parts else np.empty(0, dtype=np.uint64)
        return cls(held_out=index, hasher=hasher)

    def clean(self, text: str) -> str:
        """`text` without the paragraphs (parts between blank lines) that are held out or repeated."""
        paragraphs = text.split("\n\n")
        words = [self.hasher.words(p) for p in paragraphs]
        bad = self._held_out_paragraphs(words)
        kept = []
        for paragraph, numbers, hit in zip(paragraphs, words, bad, strict=True):
            if hit:
                self.counts.held_out += len(paragraph.encode())
            elif self._repeated(paragraph, numbers):
                self.counts.duplicate += len(paragraph.encode())
            else:
                kept.append(paragraph)
        return "\n\n".join(kept)

    def touches(self, text: str) -> bool:
        """Whether any 13 words in a row of `text` stand in a held-out set."""
        return bool(self._hits(window_hashes(self.hasher.words(text))).size)

    def _hits(self, windows: np.ndarray) -> np.ndarray:
        """int64: places of `windows` that are in the index."""
        if not len(self.held_out) or not len(windows):
            return np.empty(0, dtype=np.int64)
        place = np.minimum(np.searchsorted(self.held_out, windows), len(self.held_out) - 1)
        return np.flatnonzero(self.held_out[place] == windows)

    def _held_out_paragraphs(self, words: list[np.ndarray]) -> np.ndarray:
        """bool [paragraphs]: touched by a window of the whole text that is in the index."""
        bad = np.zeros(len(words), dtype=bool)
        hits = self._hits(window_hashes(np.concatenate(words)))
        if not len(hits):
            return bad
        owner = np.repeat(np.arange(len(words)), [len(w) for w in words])
        for offset in range(WINDOW_WORDS):
            bad[owner[hits + offset]] = True
        return bad

    def _repeated(self, paragraph: str, numbers: np.ndarray) -> bool:
        if len(paragraph) < MIN_DUPLICATE_CHARS:
            return False
        key = hashlib.blake2b(numbers.tobytes(), digest_size=16).digest()
        if key in self._seen:
            return True
        self._seen.add(key)
        return False
