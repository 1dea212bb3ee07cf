"""Keeping code apart: near copies of files, and files that share lines or words with held-out code.

Covers: windows of five lines, the share of them that was seen, held-out windows, 13 words of held-out texts, and which
files of many packages stay. Does not cover: prose (octavo.data.heldout), copies with renamed variables.

Whole packages under 0.8 MB are held out, chosen by a hash of their names (about one in 32).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from octavo.data.extract import Row
from octavo.data.heldout import ParagraphFilter
from octavo.data.javascript import Package, read_package

WINDOW_LINES = 5
MIN_LINE_CHARS = 4
MIN_HELD_OUT_CHARS = 120  # shorter windows are brackets and everyday loops that anybody writes
MAX_SEEN_SHARE = 0.5
MAX_HELD_OUT_CHARS = 800_000
HELD_OUT_PART = 8 / 256


def line_windows(code: str) -> list[tuple[bytes, bool]]:
    """A key for each run of five lines, and whether the run is long enough to tell its origin.

    Lines under four characters and indentation do not count. A file of fewer lines is one window.
    """
    lines = [line for line in map(str.strip, code.split("\n")) if len(line) >= MIN_LINE_CHARS]
    found = []
    for start in range(max(1, len(lines) - WINDOW_LINES + 1)):
        window = "\n".join(lines[start : start + WINDOW_LINES])
        key = hashlib.blake2b(window.encode(), digest_size=8).digest()
        found.append((key, len(window) >= MIN_HELD_OUT_CHARS))
    return found


@dataclass(kw_only=True)
class CodeFilter:
    """Decides on whole files, in order: the first of near copies stays. `words` guards held-out texts and counts."""

    words: ParagraphFilter
    _seen: set[bytes] = field(default_factory=set)
    _held_out: set[bytes] = field(default_factory=set)

    def hold_out(self, code: str) -> None:
        """Files given to `keeps` later may share no telling window with `code`."""
        self._held_out.update(key for key, telling in line_windows(code) if telling)

    def keeps(self, code: str) -> bool:
        """Whether a file stays. One that does not is counted in `words.counts`."""
        windows = line_windows(code)
        counts, size = self.words.counts, len(code.encode())
        if any(telling and key in self._held_out for key, telling in windows) or self.words.touches(code):
            counts.held_out += size
            return False
        if sum(key in self._seen for key, _ in windows) > MAX_SEEN_SHARE * len(windows):
            counts.duplicate += size
            return False
        self._seen.update(key for key, _ in windows)
        return True


@dataclass(frozen=True, kw_only=True)
class PackageEntry:
    """One line of the table of packages: what it is and how much of it stayed."""

    name: str
    version: str
    licence: str
    files: int
    text_bytes: int
    held_out: bool


@dataclass(frozen=True, kw_only=True)
class Code:
    """JavaScript of many packages: files to train on, files of held-out packages, readmes, the table of packages."""

    trained: tuple[Row, ...]
    held_out: tuple[Row, ...]
    readmes: tuple[Row, ...]
    packages: tuple[PackageEntry, ...]


def is_held_out(package: Package) -> bool:
    """Whether a package is kept for tests: by the first byte of its name's sha256, if it is small enough."""
    size = sum(len(row["text"]) for row in package.files)
    first = hashlib.sha256(package.name.encode()).digest()[0]
    return 0 < size < MAX_HELD_OUT_CHARS and first < 256 * HELD_OUT_PART


def read_packages(archives: Iterable[Path], words: ParagraphFilter) -> Code:
    """Read npm archives in order. Held-out packages are indexed before the first file of another one is judged.

    Readmes of held-out packages are left out. `words` guards the held-out texts and counts what is dropped.
    """
    packages = [read_package(archive) for archive in archives]
    held = {package.name for package in packages if is_held_out(package)}
    code = CodeFilter(words=words)
    for package in packages:
        for row in package.files if package.name in held else ():
            code.hold_out(row["text"])
    trained, held_rows, table = [], [], []
    for package in packages:
        is_held = package.name in held
        kept = [row for row in package.files if is_held or code.keeps(row["text"])]
        (held_rows if is_held else trained).extend(kept)
        size = sum(len(row["text"].encode()) for row in kept)
        table.append(PackageEntry(name=package.name, version=package.version, licence=package.licence, files=len(kept),
                                  text_bytes=size, held_out=is_held))  # fmt: skip
    readmes = [package.readme for package in packages if package.readme and package.name not in held]
    return Code(trained=tuple(trained), held_out=tuple(held_rows), readmes=tuple(readmes), packages=tuple(table))
