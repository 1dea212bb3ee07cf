"""Documents by name.

Covers: a folder of `.octavo` files (or memory alone), what is known of each, opening one when it is first asked for.
Does not cover: reading texts into one (`reading`), the files (`octavo.cache.document`).

Several processes may share a folder. Whatever is asked, the file is looked at first: one that another process wrote, is
writing, replaced or removed shows as it is now, and an answer under way keeps the file that it has open. A file that is
being written is locked by its writer, which is how the others know.

A name is a file name without its ending and nothing else: letters, digits, dot, dash and underscore, no dot in front.
Files of another model are listed as failed, with the reason.

Where the pool is one slab (a GPU), a document that was asked holds pages of it. It is closed when pages are short and
nobody asks it; its file is opened again for the next question, under the same key, so that prefixes behind it are hits.
"""

from __future__ import annotations

import fcntl
import os
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from octavo.config.errors import BusyError, DocumentError, MissingError, UsageError

if TYPE_CHECKING:
    from octavo.engine.document import Document
    from octavo.engine.llm import LLM

ENDING = ".octavo"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class DocumentState(StrEnum):
    """Being read, ready, read in part (asking works, reading the same texts goes on), or unusable."""

    READING = "reading"
    READY = "ready"
    PART = "part"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentInfo:
    """What is known of a document. tokens: all of it, done: those read; bytes: of its cache; files: names of texts."""

    name: str
    state: DocumentState
    tokens: int = 0
    done: int = 0
    bytes: int = 0
    files: tuple[str, ...] = ()
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """A file as it was looked at: which one it is, and how far it was written."""

    device: int
    inode: int
    size: int
    modified_ns: int


@dataclass
class _Held:
    info: DocumentInfo
    key: str = ""
    document: Document | None = None
    users: int = 0
    asked: float = 0.0  # monotonic second of the last question's end
    gone: bool = False
    seen: _Seen | None = None  # None: in memory, or being read by this process


class Library:
    """Documents of one model's service; safe for several threads. `folder` None: in memory only."""

    def __init__(self, llm: LLM, folder: Path | None = None) -> None:
        """Raises DocumentError where `folder` cannot be used."""
        self.llm, self.folder = llm, folder
        self._lock, self._keys = threading.RLock(), count(1)
        self._held: dict[str, _Held] = {}
        self._going: list[_Held] = []  # removed ones that someone still reads
        if folder is None:
            return
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)  # texts of people lie in it
            self.names()
        except OSError as error:
            raise DocumentError(f"{folder}: cannot be used for documents: {error.strerror or error}") from None

    def names(self) -> list[str]:
        """Every document, in alphabetical order."""
        with self._lock:
            if self.folder is not None:
                there = {path.stem for path in self.folder.glob(f"*{ENDING}") if _NAME.fullmatch(path.stem)}
                for name in there | set(self._held):
                    self._refresh(name)
            return sorted(self._held)

    def info(self, name: str) -> DocumentInfo:
        """What is known of a document; MissingError."""
        with self._lock:
            return self._find(name).info

    def open(self, name: str) -> tuple[Document, str]:
        """A document that can be asked, and a key that tells it from all that had its name before; `leave` it
        afterwards. MissingError, BusyError while it is being read, DocumentError where it is damaged."""
        with self._lock:
            held = self._find(name)
            if held.info.state is DocumentState.READING:
                raise BusyError(f"document {name!r} is being read: {held.info.done:,} of {held.info.tokens:,} tokens")
            if held.document is None:
                path = self._path(name)
                held.document = self.llm.open(path)
                if not held.key or _seen(path) != held.seen:  # it may have been replaced since it was looked at
                    held.key = f"{name}/{next(self._keys)}"
            held.users += 1
            return held.document, held.key

    def leave(self, document: Document) -> None:
        """The opposite of `open`."""
        with self._lock:
            for held in (*self._held.values(), *self._going):
                if held.document is document:
                    held.users -= 1
                    held.asked = time.monotonic()
                    self._drop(held)
                    return

    def remove(self, name: str) -> None:
        """Forget a document and delete its file; answers under way keep what they have. MissingError, BusyError while
        it is being read."""
        with self._lock:
            held = self._find(name)
            if held.info.state is DocumentState.READING:
                raise BusyError(f"document {name!r} is being read; cancel that first")
            del self._held[name]
            if self.folder is not None:
                self._path(name).unlink(missing_ok=True)
            self._retire(held)

    def text(self, name: str, start: int, end: int, *, file: int = 0) -> str:
        """Characters start .. end - 1 of a document's text number `file`; MissingError, UsageError beyond it."""
        document, _ = self.open(name)
        try:
            entries = document.texts.entries
            if not 0 <= file < len(entries):
                raise UsageError(f"file is {file}; document {name!r} has the files 0 to {len(entries) - 1}")
            if not 0 <= start <= end:
                raise UsageError(f"start is {start} and end {end}; 0 <= start <= end is needed")
            return document.texts.text(entries[file])[start:end]
        finally:
            self.leave(document)

    # -- for reading ---------------------------------------------------------------------------------------------------

    def begin(self, name: str, *, tokens: int, files: tuple[str, ...]) -> Path | None:
        """A document of this name is being read from now on; the file that it goes to. UsageError for a name that is
        none, and for one that a whole document has."""
        check_name(name)
        with self._lock:
            held = self._refresh(name)
            if held is not None and held.info.state is DocumentState.READING:
                raise UsageError(f"document {name!r} is being read already")
            if held is not None and held.info.state is DocumentState.READY:
                raise UsageError(f"document {name!r} is there already; remove it, or choose another name")
            if held is not None:
                self._retire(held)
            info = DocumentInfo(name=name, state=DocumentState.READING, tokens=tokens, files=files)
            self._held[name] = _Held(info)
            return None if self.folder is None else self._path(name)

    def progress(self, name: str, *, done: int, nbytes: int) -> None:
        """So much of it is read."""
        with self._lock:
            held = self._held[name]
            held.info = replace(held.info, done=done, bytes=nbytes)

    def finish(self, name: str, document: Document | None) -> None:
        """It is read: `document` where it lives in memory, None where its file is complete."""
        with self._lock:
            held = self._held[name]
            if document is None:
                held.seen = _seen(self._path(name))
                held.info = self._look(self._path(name))
                return
            held.document, held.key = document, f"{name}/{next(self._keys)}"
            held.info = replace(
                held.info, state=DocumentState.READY, done=len(document), bytes=document.nbytes
            )

    def give_up(self, name: str, error: str) -> None:
        """Reading ended early: what is in its file stays, and can be asked or gone on with."""
        with self._lock:
            path = None if self.folder is None else self._path(name)
            if path is None or not path.exists():
                self._held.pop(name, None)
                return
            seen, info = _seen(path), self._look(path)
            if info.state is DocumentState.FAILED and not info.error:
                info = DocumentInfo(name=name, state=DocumentState.FAILED, error=error)
            self._held[name] = _Held(info, seen=seen)

    def pages(self) -> int:
        """Pages of memory that documents hold; those of a file's map are not among them."""
        with self._lock:
            opened = [held.document for held in (*self._held.values(), *self._going) if held.document is not None]
            return sum(not run.slab.adopted and run.count for document in opened for run in document.state.runs)

    def idle(self) -> Counter[int] | None:
        """Pages of the pool that documents hold which `make_room` may close, each with how many hold it; None where
        another thread is at the documents, which is not waited for: it may open a file."""
        if not self._gives_pages:
            return Counter()
        if not self._lock.acquire(blocking=False):
            return None
        try:
            return Counter(page for held in self._resting() for page in _own_pages(held))
        finally:
            self._lock.release()

    def make_room(self, pages: int, *, rested: float = 0.0) -> int:
        """Close documents that nobody asked for `rested` seconds, the one that was asked longest ago first, until about
        `pages` pages are free; how many became free. Those alone whose file can be opened again, and whose end frees
        pages. At once where there can be none."""
        if not self._gives_pages:
            return 0
        freed, last = 0, time.monotonic() - rested
        with self._lock:
            allocator = self.llm.pool.allocator
            for held in sorted(self._resting(), key=lambda held: held.asked):
                if freed >= pages or held.asked > last:
                    break
                own = Counter(_own_pages(held))
                if held.document is not None and (gain := allocator.alone(own)):
                    held.document.close()
                    held.document, freed = None, freed + gain
        return freed

    @property
    def _gives_pages(self) -> bool:
        """Whether documents that rest may have pages of the pool, and files to be opened again from."""
        return self.folder is not None and self.llm.pool.fixed

    def _resting(self) -> Iterator[_Held]:
        """Documents that are open and nobody asks."""
        return (held for held in self._held.values() if held.document is not None and not held.users)

    def close(self) -> None:
        """Close all documents that are open."""
        with self._lock:
            for held in (*self._held.values(), *self._going):
                if held.document is not None:
                    held.document.close()
                    held.document = None

    def _refresh(self, name: str) -> _Held | None:
        """What there is under `name` now; looks at the file where another process may have changed it."""
        held = self._held.get(name)
        if self.folder is None or (held is not None and held.seen is None):
            return held
        path = self._path(name)
        seen = _seen(path)
        if seen is None:
            if held is not None:
                del self._held[name]
                self._retire(held)
            return None
        if held is not None and held.seen == seen and held.info.state is not DocumentState.READING:
            # A part that nobody writes may be gone on with at any time, which locks it before it grows.
            is_same = held.info.state is not DocumentState.PART or not _is_written(path)
            if is_same:
                return held
        if held is not None:
            self._retire(held)
        self._held[name] = held = _Held(self._look(path), seen=seen)
        return held

    def _retire(self, held: _Held) -> None:
        """No longer to be found by its name; closed when the last answer from it is over."""
        held.gone = True
        self._going.append(held)
        self._drop(held)

    def _drop(self, held: _Held) -> None:
        if held.gone and held.users == 0:
            if held.document is not None:
                held.document.close()
            self._going = [other for other in self._going if other is not held]

    def _find(self, name: str) -> _Held:
        held = self._refresh(check_name(name))
        if held is None:
            raise MissingError(f"there is no document {name!r}")
        return held

    def _path(self, name: str) -> Path:
        assert self.folder is not None
        return self.folder / f"{name}{ENDING}"

    def _look(self, path: Path) -> DocumentInfo:
        """What a file says about itself; FAILED with the reason where it cannot be opened, READING while it is
        written."""
        from octavo.cache.document import DocumentReader
        from octavo.engine.folding import header_of

        is_written = _is_written(path)  # before it is opened: what ends in between is looked at again
        try:
            reader = DocumentReader.open(path)
            reader.header.require(header_of(self.llm), path)
        except DocumentError as error:
            if is_written:  # its first bytes are on their way
                return DocumentInfo(name=path.stem, state=DocumentState.READING)
            return DocumentInfo(name=path.stem, state=DocumentState.FAILED, error=str(error))
        tokens = len(reader.planned_tokens)
        whole = DocumentState.READY if reader.length == tokens else DocumentState.PART
        return DocumentInfo(
            name=path.stem,
            state=DocumentState.READING if is_written else whole,
            tokens=tokens,
            done=reader.length,
            bytes=path.stat().st_size,
            files=tuple(source.name for source in reader.sources),
        )


def _own_pages(held: _Held) -> Iterator[int]:
    """Pages of the pool that a document holds, those of a file's map left out."""
    for run in () if held.document is None else held.document.state.runs:
        if not run.slab.adopted:
            yield from range(run.slab.first + run.page, run.slab.first + run.page + run.count)


def _seen(path: Path) -> _Seen | None:
    """Which file it is and how far it is written; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return _Seen(
        device=found.st_dev, inode=found.st_ino, size=found.st_size, modified_ns=found.st_mtime_ns
    )


def _is_written(path: Path) -> bool:
    """Whether a process holds the lock of those who write the file."""
    try:
        file = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(file)  # which gives the lock up
    return False


def check_name(name: str) -> str:
    """The name itself; UsageError where no document can be called so."""
    if not _NAME.fullmatch(name):
        said = name if len(name) <= 60 else f"{name[:60]}..."
        rule = "letters, digits, dot, dash and underscore, at most 100, and no dot or dash in front"
        raise UsageError(f"document name {said!r} is not possible: {rule}")
    return name
