"""Writing an `.octavo` file while a text is being read.

Covers: creating, going on after an interruption, appending what a state has read, failures of the disk. Does not cover:
running the model.

Records are only ever appended, so another process may have the file open. Bytes are handed to the operating system at
once, and flushed to the disk at most once a second and at the end: a killed process loses what was read since the last
multiple of 4,096 tokens, a power failure about a second more. One writer holds the file's lock (POSIX `flock`).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from octavo.cache.document.catalog import Catalog, Entry
from octavo.cache.document.header import DocumentHeader
from octavo.cache.document.reader import TAILS, DocumentReader, load_file, store_name
from octavo.cache.document.record import Kind, pack_record
from octavo.cache.document.sources import DocumentSource, SourceText, pack_sources
from octavo.cache.layout import PAGE_TOKENS
from octavo.cache.state import SNAPSHOT_TOKENS, SequenceState
from octavo.config.errors import DocumentError

_RECORD_PAGES = SNAPSHOT_TOKENS // PAGE_TOKENS
_SYNC_SECONDS = 1.0
_LOOKS, _LOOK_SECONDS = 5, 0.01
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_sync = getattr(os, "fdatasync", os.fsync)  # not on every POSIX system


class DocumentWriter:
    """A document that grows. Close it, or use it in a `with` block: that writes the index and gives up the lock.

    Every failure raises DocumentError and leaves the file as it was before the call.
    """

    def __init__(self, path: Path, file: int, header: DocumentHeader, catalog: Catalog) -> None:
        self.path, self.header, self._file, self._catalog = path, header, file, catalog
        self.sources: list[DocumentSource] = []
        self.tokens = np.empty(0, dtype=np.int32)
        self._synced = time.monotonic()

    @classmethod
    def create(cls, path: str | Path, header: DocumentHeader) -> DocumentWriter:
        """A new document. DocumentError when `path` exists or cannot be written."""
        path, head = Path(path), header.to_bytes()
        file = _open_locked(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        try:
            _write_head(path, file, head)
        except BaseException:
            os.close(file)
            path.unlink()
            raise
        return cls(path, file, header, Catalog(len(head), path))

    @classmethod
    def resume(cls, path: str | Path, header: DocumentHeader) -> DocumentWriter:
        """Go on with a document after checking all of it; `length` tokens of `tokens` are read, see `fill`.

        What an interrupted write left at the end is cut away. DocumentError when it is damaged, another model's, or
        being written by another process.
        """
        path, head = Path(path), header.to_bytes()
        file = _open_locked(path, os.O_RDWR)
        try:
            size = os.fstat(file).st_size
            if size < len(head) and os.pread(file, size, 0) == head[:size]:  # creating it was interrupted
                _write_head(path, file, head)
                return cls(path, file, header, Catalog(len(head), path))
            data, found, catalog = load_file(path)
            found.require(header, path)
            found.require_reading(header, path)
            reader = DocumentReader(path, data, found, catalog)
            reader.verify()
            os.ftruncate(file, catalog.end)
            writer = cls(path, file, header, catalog)
            writer.sources, writer.tokens = reader.sources, reader.planned_tokens
            return writer
        except BaseException:
            os.close(file)
            raise

    def __enter__(self) -> DocumentWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *failure: object) -> None:
        try:
            self.close()
        except DocumentError:
            if kind is None:  # otherwise the first failure is the one to be seen
                raise

    @property
    def length(self) -> int:
        """Tokens that the file holds folded."""
        return self._catalog.length

    @property
    def complete(self) -> bool:
        """Whether all tokens of the sources are."""
        return self.length == len(self.tokens)

    def require_sources(self, sources: Sequence[SourceText]) -> None:
        """DocumentError naming the first text that is not the one in the file at its place, or is missing there."""
        given = [DocumentSource.of(source) for source in sources]
        for place in range(max(len(given), len(self.sources))):
            if place >= len(given):
                raise DocumentError(f"{self.path}: also holds {self.sources[place].name}; give it too, or another file")
            if place >= len(self.sources):
                raise DocumentError(f"{self.path}: does not hold {given[place].name}; choose another file")
            if given[place].sha256 != self.sources[place].sha256:
                raise DocumentError(
                    f"{self.path}: holds another text at the place of {given[place].name} "
                    f"(sha256 {self.sources[place].sha256[:12]} there, {given[place].sha256[:12]} here); "
                    "choose another file, or remove this one"
                )

    def append_sources(self, sources: Sequence[SourceText], *, ids: np.ndarray) -> None:
        """Add texts and all token ids [n] that they add to the document, BOS and gaps included; before reading them."""
        fields, sections = pack_sources(sources, ids)
        self._write(Kind.SOURCES, sections=sections, fields=fields, what=f"{len(sources)} texts")
        self.sources = [*self.sources, *(DocumentSource.of(source) for source in sources)]
        self.tokens = np.concatenate((self.tokens, np.asarray(ids, dtype=np.int32)))

    def append(self, state: SequenceState) -> None:
        """Write every stretch of 4,096 tokens that the state has completed since the last call.

        Cheap when there is none, so it can be called after every chunk. Chunks should end at multiples of 4,096: pages
        are written where the state has a mark.
        """
        self._require_tokens(state)
        for mark in state.marks:
            if mark % SNAPSHOT_TOKENS == 0 and mark > self._catalog.paged:
                self._write_pages(state, mark)

    def finish(self, state: SequenceState) -> None:
        """Write all that the state has read, to the last token. It may go on afterwards."""
        self.append(state)
        tail, first, stop = self._catalog.tail, self._catalog.paged, state.length
        if stop == 0 or (tail is not None and tail.stop == stop):
            return
        sections = self._page_sections(state, first, stop) | _tail_sections(state.snapshot())
        self._write(Kind.TAIL, first=first, stop=stop, sections=sections, resumes=True)
        self._flush(at_once=True)

    def fill(self, state: SequenceState) -> SequenceState:
        """Put what the file holds into an empty state, to go on reading; nothing when it holds nothing yet."""
        return DocumentReader.open(self.path).fill(state) if self.length else state

    def close(self) -> None:
        """Write the index, flush, and give up the lock. Closing twice is fine."""
        if self._file < 0:
            return
        try:
            if not self._catalog.closed and self._catalog.records:
                self._write(Kind.INDEX, sections=self._catalog.to_sections(), what="the index")
            self._flush(at_once=True)
        finally:
            file, self._file = self._file, -1
            os.close(file)

    def _write_pages(self, state: SequenceState, mark: int) -> None:
        """PAGES up to `mark`, the last record with the tails there."""
        while self._catalog.reached < mark:
            first = self._catalog.reached
            stop = min(first + _RECORD_PAGES * PAGE_TOKENS, mark)
            sections = self._page_sections(state, first, stop)
            if stop == mark:
                sections |= _tail_sections(state.snapshot(mark, lean=True))
            self._write(Kind.PAGES, first=first, stop=stop, sections=sections, resumes=stop == mark)
        self._flush(at_once=False)

    def _page_sections(self, state: SequenceState, first: int, stop: int) -> dict[str, Tensor]:
        """Rows by store of pages with tokens first .. stop - 1; rows not yet made are zeros, whatever memory held."""
        count = -(-(stop - first) // PAGE_TOKENS)
        if not count:
            return {}
        rows = state.read_pages(first // PAGE_TOKENS, count)
        for key, spec in state.pool.specs.items():
            rows[key][(stop - first) // spec.ratio :] = 0
        return {store_name(key): values for key, values in rows.items()}

    def _require_tokens(self, state: SequenceState) -> None:
        """The state must have read this document's tokens."""
        if state.length < self._catalog.paged:
            raise ValueError(f"the state has read {state.length} tokens, the file holds {self._catalog.paged}")
        first = self._catalog.paged
        if not np.array_equal(state.tokens[first:], self.tokens[first : state.length]):
            raise ValueError(f"the state's tokens from {first} on are not those of the document's sources")

    def _write(
        self, kind: Kind, *, sections: dict[str, Tensor], first: int = 0, stop: int = 0,
        resumes: bool = False, fields: dict | None = None, what: str | None = None,
    ) -> None:  # fmt: skip
        assert self._file >= 0, "the document is closed"
        catalog = self._catalog
        if kind is not Kind.PAGES and catalog.tip > catalog.end:  # an interrupt left pages that no tails follow
            catalog.drop_pending()
            os.ftruncate(self._file, catalog.end)
        pieces = pack_record(
            kind, number=catalog.number, first=first, stop=stop, sections=sections, resumes=resumes, fields=fields
        )
        size = sum(len(piece) for piece in pieces)
        try:
            os.lseek(self._file, catalog.tip, os.SEEK_SET)
            _write_all(self._file, pieces)
            catalog.add(Entry(catalog.tip, size, kind, first, stop, int(resumes)))
        except BaseException as error:
            catalog.drop_pending()
            with contextlib.suppress(OSError):  # scraps behind the last whole record are harmless
                os.ftruncate(self._file, catalog.end)
            if isinstance(error, OSError):
                raise _failure(self.path, error, size, self.length, what or f"tokens {first:,} to {stop:,}") from error
            raise

    def _flush(self, *, at_once: bool) -> None:
        now = time.monotonic()
        if at_once or now - self._synced >= _SYNC_SECONDS:
            try:
                _sync(self._file)
            except OSError as error:
                raise DocumentError(f"{self.path}: flushing to the disk failed: {error.strerror}") from error
            self._synced = now


def _tail_sections(snapshot: dict[str, Tensor]) -> dict[str, Tensor]:
    return {TAILS + name: values for name, values in snapshot.items()}


def _open_locked(path: Path, flags: int) -> int:
    try:
        file = os.open(path, flags | getattr(os, "O_CLOEXEC", 0), 0o666)
    except FileExistsError as error:
        raise DocumentError(f"{path}: exists already") from error
    except OSError as error:
        raise DocumentError(f"{path}: cannot be opened for writing: {error.strerror or error}") from error
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise DocumentError(f"{path}: is no regular file; a document can be written to none other")
        _lock(file)
    except BaseException as error:
        os.close(file)
        if isinstance(error, OSError):
            raise DocumentError(f"{path}: another process is writing it") from error
        raise
    return file


def _lock(file: int) -> None:
    """Lock an open file for writing; OSError where another process has it."""
    for _ in range(_LOOKS):
        try:
            return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_LOOK_SECONDS)  # whoever only looks whether the file is being written holds it for a moment
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _write_all(file: int, pieces: Sequence[bytes | memoryview]) -> None:
    for piece in pieces:
        view = memoryview(piece)
        while len(view):
            view = view[os.write(file, view) :]


def _write_head(path: Path, file: int, head: bytes) -> None:
    try:
        _write_all(file, [head])
    except OSError as error:
        raise _failure(path, error, len(head), 0) from error


def _failure(path: Path, error: OSError, size: int, length: int, what: str = "the head") -> DocumentError:
    if error.errno not in _FULL:
        return DocumentError(f"{path}: writing {what} failed: {error.strerror}; {length:,} tokens are kept")
    free = os.statvfs(path.parent)
    return DocumentError(
        f"{path}: no room for the {size:,} bytes of {what} ({free.f_bavail * free.f_frsize:,} bytes are free, "
        f"{error.strerror}); {length:,} tokens are kept; make room and read the same text again to go on"
    )
