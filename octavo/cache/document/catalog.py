"""Which records of an `.octavo` file count, and where they lie.

Covers: finding the records (by the index, or by walking their prefixes), the chain of pages that they make, the end up
to which a file is whole. Does not cover: the records' contents.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from octavo.cache.document.header import ALIGN, padded
from octavo.cache.document.record import RECORD_MAGIC, Kind, Record, RecordError, parse_prefix
from octavo.config.errors import DocumentError

_END_MAGIC = b"\x89OCTEND\n"
_END = struct.Struct("<8sQI")  # magic, place of the INDEX record, CRC-32 of the 16 bytes before


class Entry(NamedTuple):
    """A record's place and the part of its prefix that the chain needs."""

    offset: int
    nbytes: int
    kind: int
    first: int
    stop: int
    resumes: int

    @property
    def end(self) -> int:
        """One past its last byte."""
        return self.offset + self.nbytes


class Catalog:
    """The records that count; `end` is the end of the whole part of the file, `closed`: found by an index at its end.

    `pages` cover tokens 0 .. `paged` - 1 without a gap and end where reading can go on; `tail` continues them up to
    `length`. PAGES that no tails follow yet do not count.
    """

    def __init__(self, start: int, path: Path) -> None:
        self.path, self.end, self.closed = path, start, False
        self.records: list[Entry] = []  # all up to `end`, dead ones too: their place here is their number
        self.sources: list[Entry] = []
        self.pages: list[Entry] = []
        self.tail: Entry | None = None
        self._pending: list[Entry] = []

    @property
    def paged(self) -> int:
        """Tokens that whole PAGES cover."""
        return self.pages[-1].stop if self.pages else 0

    @property
    def length(self) -> int:
        """Tokens read so far."""
        return self.tail.stop if self.tail is not None else self.paged

    @property
    def last(self) -> Entry | None:
        """The record whose tails are the newest."""
        return self.tail if self.tail is not None else self.pages[-1] if self.pages else None

    @property
    def number(self) -> int:
        """The number of the next record."""
        return len(self.records) + len(self._pending)

    @property
    def tip(self) -> int:
        """Where the next record goes."""
        return self._pending[-1].end if self._pending else self.end

    @property
    def reached(self) -> int:
        """Tokens covered by PAGES, those that no tails follow yet included."""
        return self._pending[-1].stop if self._pending else self.paged

    def add(self, entry: Entry) -> None:
        """Take the next record into account. Raises DocumentError when its tokens do not follow."""
        follows = self.reached if entry.kind == Kind.PAGES else self.paged
        if entry.kind in (Kind.PAGES, Kind.TAIL) and (entry.first != follows or entry.stop < entry.first):
            raise DocumentError(
                f"{self.path}: record {self.number} at byte {entry.offset} begins at token {entry.first:,}; "
                f"{follows:,} must follow"
            )
        if entry.kind == Kind.PAGES:
            self._pending.append(entry)
            if not entry.resumes:
                return
            self.records += self._pending
            self.pages += self._pending
            self.tail, self._pending = None, []
        else:
            self.drop_pending()
            self.records.append(entry)
            if entry.kind == Kind.TAIL:
                self.tail = entry
            elif entry.kind == Kind.SOURCES:
                self.sources.append(entry)
        self.end, self.closed = entry.end, entry.kind == Kind.INDEX

    def drop_pending(self) -> None:
        """Forget PAGES that no tails follow."""
        self._pending = []

    def without_last(self) -> Catalog:
        """The catalog as it was before the newest tails were written."""
        assert self.last is not None
        earlier = Catalog(self.records[0].offset, self.path)
        for entry in self.records[: self.records.index(self.last)]:
            earlier.add(entry)
        earlier.drop_pending()
        return earlier

    def to_sections(self) -> dict[str, Tensor]:
        """Sections of an INDEX record that will lie at `end`; the last one is the last 64 bytes of the file."""
        rows = np.array(self.records, dtype=np.int64).reshape(-1, len(Entry._fields))
        packed = _END.pack(_END_MAGIC, self.end, 0)[:-4]
        packed = padded(packed + struct.pack("<I", zlib.crc32(packed)))
        return {
            "records": torch.from_numpy(rows),
            "end": torch.from_numpy(np.frombuffer(packed, dtype=np.uint8).copy()),
        }


def read_catalog(data: Tensor, start: int, path: Path) -> Catalog:
    """The catalog of a file whose bytes are `data` [n] uint8 and whose head ends at `start`.

    Raises DocumentError for records that contradict each other, and for an altered prefix with whole records behind it.
    """
    catalog = Catalog(start, path)
    indexed = _indexed(data, path)
    for entry in _walk(data, start, path) if indexed is None else indexed:
        catalog.add(entry)
    catalog.drop_pending()
    return catalog


def _indexed(data: Tensor, path: Path) -> list[Entry] | None:
    """The entries of the index at the end of the file, its own last; None without one."""
    size = len(data)
    if size % ALIGN or size < 2 * ALIGN:
        return None
    raw = data[size - ALIGN :].numpy().tobytes()
    magic, offset, crc = _END.unpack_from(raw)
    if magic != _END_MAGIC or crc != zlib.crc32(raw[: _END.size - 4]):
        return None
    try:
        record = Record(data, offset)
        rows = record.read("records").tolist()
    except RecordError as error:
        raise DocumentError(f"{path}: the index at byte {offset} is damaged: {error}") from error
    own = Entry(offset, record.prefix.nbytes, Kind.INDEX, 0, 0, 0)
    return [*(Entry(*row) for row in rows), own]


def _walk(data: Tensor, start: int, path: Path) -> Sequence[Entry]:
    """Entries by their prefixes, up to the first record that is not whole."""
    view, entries, at = data.numpy().data, [], start
    while at + ALIGN <= len(view):
        prefix = parse_prefix(view[at : at + ALIGN])
        if prefix is None or prefix.number != len(entries):
            _require_unfinished(data, at, len(entries), path)
            break
        if at + prefix.nbytes > len(view):
            break
        entries.append(Entry(at, prefix.nbytes, prefix.kind, prefix.first, prefix.stop, int(prefix.resumes)))
        at += prefix.nbytes
    return entries


def _require_unfinished(data: Tensor, at: int, number: int, path: Path) -> None:
    """An interrupted write leaves nothing whole behind it; if there is something, the prefix at `at` was altered."""
    rest = data[at + ALIGN : len(data) - len(data) % ALIGN].numpy()
    heads = rest.view(np.uint64)[:: ALIGN // 8]
    for place in np.flatnonzero(heads == np.frombuffer(RECORD_MAGIC, dtype=np.uint64)[0]) * ALIGN:
        if parse_prefix(rest.data[place : place + ALIGN]) is not None:
            raise DocumentError(
                f"{path}: record {number} at byte {at} is altered, while one at byte {at + ALIGN + place} is whole"
            )
