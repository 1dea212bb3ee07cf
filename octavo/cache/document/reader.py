"""Opening an `.octavo` file.

Covers: the memory map, what a document says about itself, restoring its state, verifying it. Does not cover: writing
(`writer`), which model to use (`octavo.engine`).

Opening maps the file and reads its head, its list of records, the sources' ids and the newest tails. Rows of pages are
used where they lie, in the map, and are checked when they are first read.
"""

from __future__ import annotations

import mmap
import os
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from octavo.cache.document.catalog import Catalog, Entry, read_catalog
from octavo.cache.document.header import DocumentHeader, parse_header
from octavo.cache.document.record import Kind, Record, RecordError
from octavo.cache.document.sources import DocumentSource, unpack_sources, unpack_text
from octavo.cache.layout import PAGE_TOKENS
from octavo.cache.pool import LoadRows, PagePool, StoreKey
from octavo.cache.state import Replay, SequenceState
from octavo.cache.tails import LayerTail
from octavo.config.errors import DocumentError

TAILS = "tails."  # prefix of the names of a record's sections that make up a state's snapshot


class DocumentReader:
    """A document on disk, read-only. The map lives as long as this object or a state restored from it."""

    def __init__(self, path: Path, data: Tensor, header: DocumentHeader, catalog: Catalog) -> None:
        self.path, self.header, self.catalog = path, header, catalog
        self._data = data
        self.sources: list[DocumentSource] = []
        self._texts: list[tuple[Entry, int]] = []
        ids = [np.empty(0, dtype=np.int32)]
        for entry in catalog.sources:
            record = self._record(entry)
            made = unpack_sources(record)
            self.sources += made
            self._texts += [(entry, place) for place in range(len(made))]
            ids.append(self._read(record, "ids").numpy())
        self.planned_tokens = np.concatenate(ids)
        if len(self.planned_tokens) < catalog.length:
            raise DocumentError(
                f"{path}: its sources have {len(self.planned_tokens):,} tokens, its pages {catalog.length:,}"
            )

    @classmethod
    def open(cls, path: str | Path) -> DocumentReader:
        """Open a document in milliseconds, whatever its length.

        Raises DocumentError, naming what and where: no such file, not a document, too new, altered, nothing read yet.
        """
        path = Path(path)
        reader = cls(path, *load_file(path))
        if reader.length == 0:
            raise DocumentError(
                f"{path}: holds nothing folded yet: reading its {len(reader.planned_tokens):,} tokens was cut off at "
                "the start; read the same text into it again"
            )
        return reader

    @property
    def length(self) -> int:
        """Tokens read."""
        return self.catalog.length

    @property
    def tokens(self) -> np.ndarray:
        """Ids of the tokens read, [length] int32; `planned_tokens` are those of all sources."""
        return self.planned_tokens[: self.length]

    @property
    def complete(self) -> bool:
        """Whether every token of the sources was read."""
        return self.length == len(self.planned_tokens)

    @property
    def dropped_bytes(self) -> int:
        """Bytes at the end of the file that are no whole record: reading was killed, or the file was cut."""
        return len(self._data) - self.catalog.end

    @property
    def notice(self) -> str | None:
        """One line for the user when this is not the whole document, else None."""
        if self.complete:
            return None
        total = len(self.planned_tokens)
        return f"{self.path}: holds {self.length:,} of {total:,} tokens; read the same text into it again to go on"

    def text(self, place: int) -> str:
        """The text of `sources[place]` as it was read."""
        entry, inner = self._texts[place]
        try:
            return unpack_text(self._record(entry), inner)
        except RecordError as error:
            raise self._damaged(entry, error) from error

    def restore(
        self, pool: PagePool, empty_tails: tuple[LayerTail, ...], *, replay: Replay | None = None
    ) -> SequenceState:
        """The state at the end of the document, its pages in the map. DocumentError when `pool` has another layout."""
        return self.fill(SequenceState(pool, empty_tails, replay=replay))

    def fill(self, state: SequenceState) -> SequenceState:
        """As `restore`, into a state that has read nothing."""
        if state.length:
            raise ValueError(f"the state has read {state.length} tokens; only an empty one can be filled")
        self.header.require_layout(state.layout, self.path)
        entries = [*self.catalog.pages, *([self.catalog.tail] if self.catalog.tail is not None else [])]
        for entry in entries:
            pages = -(-(entry.stop - entry.first) // PAGE_TOKENS)
            if pages:
                state.adopt_pages(self._rows_of(entry), pages)
        record = self._record(entries[-1])
        names = [name for name in record.sections if name.startswith(TAILS)]
        named = {name.removeprefix(TAILS): self._read(record, name).to(state.pool.device) for name in names}
        state.load_snapshot(named, self.tokens)
        return state

    def verify(self) -> int:
        """Check every byte up to `catalog.end`, and count them. DocumentError for the first altered part."""
        for entry in self.catalog.records:
            try:
                Record(self._data, entry.offset).verify()
            except RecordError as error:
                raise self._damaged(entry, error) from error
        return self.catalog.end

    def _rows_of(self, entry: Entry) -> LoadRows:
        record: list[Record] = []

        def load(key: StoreKey) -> Tensor:
            if not record:
                record.append(self._record(entry))
            return self._read(record[0], store_name(key))

        return load

    def _record(self, entry: Entry) -> Record:
        try:
            return Record(self._data, entry.offset)
        except RecordError as error:
            raise self._damaged(entry, error) from error

    def _read(self, record: Record, name: str) -> Tensor:
        try:
            return record.read(name)
        except RecordError as error:
            raise self._damaged(self._entry(record), error) from error

    def _entry(self, record: Record) -> Entry:
        return next(entry for entry in self.catalog.records if entry.offset == record.offset)

    def _damaged(self, entry: Entry, error: RecordError) -> DocumentError:
        what = f"record {self.catalog.records.index(entry)} ({Kind(entry.kind).name.lower()}"
        what += f", tokens {entry.first:,} to {entry.stop:,})" if entry.stop > entry.first else ")"
        return DocumentError(f"{self.path}: {what} at byte {entry.offset} is damaged: {error}")


def store_name(key: StoreKey) -> str:
    """Name of the section that holds a store's rows."""
    return f"{key[0]}.{key[1]}"


def load_file(path: Path) -> tuple[Tensor, DocumentHeader, Catalog]:
    """A mapped file [n] uint8, its header, and the records in it that can be used.

    The newest tails are read. Where the file was not closed they may be part of an interrupted write, and those before
    them count; where it was closed they are damaged, which is an error.
    """
    data = _map(path)
    header, start = parse_header(data.numpy().data, path)
    catalog = read_catalog(data, start, path)
    while catalog.last is not None:
        try:
            Record(data, catalog.last.offset).verify()
            break
        except RecordError as error:
            if catalog.closed:
                number = catalog.records.index(catalog.last)
                raise DocumentError(
                    f"{path}: record {number} at byte {catalog.last.offset} is damaged: {error}"
                ) from error
            catalog = catalog.without_last()
    return data, header, catalog


def _map(path: Path) -> Tensor:
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size == 0:
                raise DocumentError(f"{path}: the file is empty")
            mapped = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)
    except OSError as error:
        raise DocumentError(f"{path}: cannot be opened: {error.strerror or error}") from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch warns of a buffer that must not be written: it never is
        return torch.frombuffer(mapped, dtype=torch.uint8)
