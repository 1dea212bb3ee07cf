"""The file of one state on a shelf.

Covers: writing it whole or not at all, checking and mapping it, filling a state with it. Does not cover: which files
there are (`shelf`).

It is an `.octavo` file (`octavo.cache.document`) of the sequence from the page on that token `base` lies in: what comes
before are pages of a document in the library, which are not written again. Its one source has no text; its name is JSON
of the root and of `base`. Records: SOURCES, then PAGES of up to 16,384 tokens, the last with the tails.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from octavo.cache.document import DocumentHeader, DocumentReader, SourceText
from octavo.cache.document.reader import TAILS, load_file, store_name
from octavo.cache.document.record import Kind, Record, RecordError, pack_record
from octavo.cache.document.sources import pack_sources
from octavo.cache.layout import PAGE_TOKENS
from octavo.cache.pool import StoreKey
from octavo.cache.state import SequenceState
from octavo.config.errors import DocumentError

_log = logging.getLogger(__name__)
_RECORD_PAGES = 64  # bounds the memory that writing takes; few stretches of rows when read
_SECTION_BYTES = 256  # at most for a section's entry in the table and its padding


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A file's content, every used byte checked. `tokens` and `parts` (pages, and rows by store) begin at the page of
    token `base`; tensors are views of the mapped file."""

    root: str
    base: int
    tokens: np.ndarray
    parts: tuple[tuple[int, dict[StoreKey, Tensor]], ...]
    tails: dict[str, Tensor]


def read_stored(path: Path, header: DocumentHeader) -> Stored:
    """Map a file and compare all that will be used with its checksums.

    DocumentError where that fails, or the file is not whole or not made with this model, tokenizer and layout.
    """
    data, found, catalog = load_file(path)
    found.require(header, path)
    found.require_reading(header, path)
    reader = DocumentReader(path, data, found, catalog)
    root, base = named(reader)
    if reader.dropped_bytes or not reader.complete or catalog.tail is not None or not catalog.pages:
        raise DocumentError(f"{path}: is not whole")
    parts = []
    try:
        for entry in catalog.pages:
            record, pages = Record(data, entry.offset), -(-(entry.stop - entry.first) // PAGE_TOKENS)
            parts.append((pages, _rows(record, header, pages, path)))
        tails = {name.removeprefix(TAILS): record.read(name) for name in record.sections if name.startswith(TAILS)}
    except RecordError as error:
        raise DocumentError(f"{path}: the record at byte {entry.offset} is damaged: {error}") from error
    return Stored(root=root, base=base, tokens=reader.tokens, parts=tuple(parts), tails=tails)


def _rows(record: Record, header: DocumentHeader, pages: int, path: Path) -> dict[StoreKey, Tensor]:
    rows: dict[StoreKey, Tensor] = {}
    for spec in header.layout.stores:
        rows[spec.layer, spec.kind] = found = record.read(store_name((spec.layer, spec.kind)))
        if tuple(found.shape) != (pages * spec.entries_per_page, spec.row_bytes):
            raise DocumentError(f"{path}: rows of layer {spec.layer} have the shape {list(found.shape)}")
    return rows


def write_stored(
    path: Path, part: Path, header: DocumentHeader, root: str, base: int, state: SequenceState, *, flush: bool
) -> int:
    """Write a file as `part`, flush it to the disk if told, and move it to `path`; its bytes.

    OSError, after which there is neither.
    """
    try:
        file = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(file, "wb") as out:
            out.write(header.to_bytes())
            for pieces in _records(root, base, state):
                out.writelines(pieces)
            out.flush()
            nbytes = out.tell()
            if flush:
                os.fsync(out.fileno())
        os.replace(part, path)
    except BaseException:
        unlink(part)
        raise
    if flush:
        _flush_folder(path.parent)
    return nbytes


def unlink(path: Path) -> None:
    """Remove a file; one that cannot be removed is logged."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        _log.warning("%s: cannot be removed: %s", path, error.strerror or error)


def fill(
    stored: Stored, state: SequenceState, *, document: SequenceState | None = None, copied: bool = False
) -> SequenceState:
    """Put a checked file into the empty `state`, its pages where they lie in the file, or `copied` into the pool.

    document: the state whose first `base` tokens it continues; the pages before those of the file are shared with it.
    LimitError when the pool has no pages for copies; `state` stays empty then.
    """
    first, pool = stored.base // PAGE_TOKENS, state.pool
    if state.length or (first and (document is None or document.length < stored.base)):
        raise ValueError(f"an empty state and a document of {stored.base} tokens are needed")
    if first and document is not None:
        shared = document.pages[:first]
        pool.allocator.hold(shared)
        state.pages, state.runs = list(shared), pool.runs(shared)
    try:
        for count, rows in stored.parts:
            state.adopt_pages(rows.__getitem__, count)
            if copied:
                _copy_last(state, count)
    except BaseException:
        pool.release(state.pages)
        state.pages, state.runs = [], []
        raise
    before = np.empty(0, dtype=np.int32) if document is None else document.tokens[: first * PAGE_TOKENS]
    device = pool.device
    tails = {name: rows.to(device, copy=copied) for name, rows in stored.tails.items()}
    state.load_snapshot(tails, np.concatenate((before, stored.tokens)))
    return state


def _copy_last(state: SequenceState, count: int) -> None:
    """Replace the last `count` pages, adopted ones, by writable copies."""
    pool, fresh = state.pool, []
    adopted = state.pages[-count:]
    try:
        for _ in adopted:
            fresh.append(pool.take())
    except BaseException:
        pool.release(fresh)
        raise
    for run in pool.runs(adopted):
        pool.copy_run(run, fresh[run.start : run.start + run.count])
    pool.release(adopted)
    state.pages = state.pages[:-count] + fresh
    state.runs = pool.runs(state.pages)


def _records(root: str, base: int, state: SequenceState) -> Iterator[list[bytes | memoryview]]:
    """The records of a file as pieces of bytes."""
    skipped = base // PAGE_TOKENS * PAGE_TOKENS
    ids, size = state.tokens[skipped:], _RECORD_PAGES * PAGE_TOKENS
    source = SourceText(name=json.dumps({"root": root, "base": base}), text="", first_token=0, tokens=len(ids))
    fields, sections = pack_sources([source], ids)
    yield pack_record(Kind.SOURCES, number=0, first=0, stop=0, sections=sections, fields=fields)
    for number, first in enumerate(range(0, len(ids), size), 1):
        stop = min(first + size, len(ids))
        rows = state.read_pages((skipped + first) // PAGE_TOKENS, -(-(stop - first) // PAGE_TOKENS))
        for key, spec in state.pool.specs.items():
            rows[key][(skipped + stop) // spec.ratio - (skipped + first) // spec.ratio :] = 0  # not made yet
        sections = {store_name(key): values for key, values in rows.items()}
        if stop == len(ids):
            sections |= {TAILS + name: values for name, values in state.snapshot().items()}
        yield pack_record(
            Kind.PAGES, number=number, first=first, stop=stop, sections=sections, resumes=stop == len(ids)
        )


def most_bytes(state: SequenceState, root: str, base: int) -> int:
    """At least the bytes of the file that a state will make."""
    tokens = state.length - base // PAGE_TOKENS * PAGE_TOKENS
    pages, snapshot = -(-tokens // PAGE_TOKENS), state.snapshot()
    sections = (pages // _RECORD_PAGES + 1) * (len(state.layout.stores) + 2) + len(snapshot) + 4
    named = 6 * len(root.encode()) + 2048
    values = pages * state.layout.page_bytes + 4 * tokens + sum(rows.nbytes for rows in snapshot.values())
    return values + sections * _SECTION_BYTES + named + 8192


def named(reader: DocumentReader) -> tuple[str, int]:
    """Root and base of a file. DocumentError when it has none."""
    try:
        (source,) = reader.sources
        values = json.loads(source.name)
        return str(values["root"]), int(values["base"])
    except (ValueError, KeyError, TypeError) as error:
        raise DocumentError(f"{reader.path}: does not say what it begins") from error


def _flush_folder(folder: Path) -> None:
    at = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(at)
    finally:
        os.close(at)
