"""Documents to and from `.octavo` files.

Covers: reading into a file and going on with one, saving, opening. Does not cover: the file's bytes
(`octavo.cache.document`), reading into memory alone (`llm`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from octavo.cache.document import DocumentHeader, DocumentReader, DocumentWriter, SourceText
from octavo.cache.state import SequenceState
from octavo.cache.view import Controls
from octavo.config.errors import DocumentError
from octavo.engine.answer import Prefix, Usage
from octavo.engine.document import Document
from octavo.engine.texts import TextEntry, Texts, whole_characters

if TYPE_CHECKING:
    from octavo.engine.llm import LLM


def read_to_file(
    llm: LLM,
    texts: Texts,
    path: Path,
    *,
    progress: Callable[[int, int, int], None] | None = None,
    controls: Controls | None = None,
) -> Document:
    """Read texts and write them to `path` on the way; a file that holds their beginning is gone on with.

    An interrupt (KeyboardInterrupt) writes what was read so far and is passed on. Raises DocumentError when `path`
    holds something else, belongs to another model, or cannot be written; what it held stays.
    """
    started = time.perf_counter()
    header, total = header_of(llm), len(texts.ids)
    state = llm.new_state()
    try:
        with DocumentWriter.resume(path, header) if path.exists() else DocumentWriter.create(path, header) as writer:
            check_sources(writer, texts)
            writer.fill(state)
            done = state.length

            def after(state: SequenceState) -> None:
                writer.append(state)
                if progress is not None:
                    progress(state.length, total, state.nbytes)

            try:
                after(state)
                llm.runner.read(texts.ids[done:], state, controls=controls, after=after)
            except KeyboardInterrupt:
                writer.finish(state)
                raise
            writer.finish(state)
    except BaseException:
        state.close()
        raise
    usage = Usage(
        read_tokens=total - done,
        reused_tokens=done,
        seconds=time.perf_counter() - started,
        cache_bytes=state.nbytes,
        prefix=Prefix.SNAPSHOT if done else Prefix.NONE,
    )
    return Document(llm, state, texts, usage)


def save_document(document: Document, path: Path) -> None:
    """Write a document that is in memory to a new file.

    Raises DocumentError when `path` exists or cannot be written; a file that could not be completed is removed.
    """
    writer = DocumentWriter.create(path, header_of(document.llm))
    try:
        with writer:
            check_sources(writer, document.texts)
            writer.finish(document.state)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def open_document(llm: LLM, path: Path) -> Document:
    """A document from its file, its pages in a memory map.

    Where reading was interrupted, the document is what was read by then, and its `notice` says so. Raises DocumentError
    when the file is missing, damaged, too new, or made by another model.
    """
    started = time.perf_counter()
    reader = DocumentReader.open(path)
    reader.header.require(header_of(llm), path)
    texts = _texts(reader, llm)
    state = reader.fill(llm.new_state())
    usage = Usage(
        reused_tokens=state.length,
        seconds=time.perf_counter() - started,
        cache_bytes=state.nbytes,
        prefix=Prefix.SNAPSHOT,
    )
    return Document(llm, state, texts, usage, notice=reader.notice)


def header_of(llm: LLM) -> DocumentHeader:
    """What a file of this model begins with."""
    return DocumentHeader(
        model_name=llm.name,
        model_fingerprint=llm.fingerprint,
        tokenizer_fingerprint=llm.tokenizer.fingerprint,
        layout=llm.pool.layout,
    )


def check_sources(writer: DocumentWriter, texts: Texts) -> None:
    """Write the texts into a new file; in an old one they must be the same."""
    sources = [
        SourceText(name=entry.name, text=texts.text(entry), first_token=entry.first_token, tokens=entry.tokens)
        for entry in texts.entries
    ]
    if not writer.sources:
        writer.append_sources(sources, ids=texts.ids)
        return
    writer.require_sources(sources)
    if not np.array_equal(writer.tokens, texts.ids):
        raise DocumentError(f"{writer.path}: holds the same texts cut into other tokens; choose another file")


def _texts(reader: DocumentReader, llm: LLM) -> Texts:
    """The texts of a file as far as they were read, to the end of the last whole character."""
    entries = []
    for source in reader.sources:
        stop = min(source.first_token + source.tokens, reader.length)
        tokens = whole_characters(reader.tokens[source.first_token : stop], llm.tokenizer)
        if tokens:
            entries.append(
                TextEntry(name=source.name, first_token=source.first_token, tokens=tokens, chars=source.chars)
            )
    return Texts(reader.tokens, entries, llm.tokenizer)
