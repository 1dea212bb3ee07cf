"""`.octavo` files made without a model.

Covers: headers, a document of random rows written chunk by chunk, altering bytes. Does not cover: texts that mean
anything.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from octavo.cache.document import DocumentHeader, DocumentReader, DocumentWriter, SourceText
from octavo.cache.layout import CacheLayout
from octavo.cache.pool import PagePool
from octavo.cache.state import SequenceState
from octavo.cache.tails import empty_tails
from octavo.config.errors import DocumentError
from tests.support.sequences import fake_read, small_config

TEXT = "Der Schnee fällt — leise. 雪が降る。\n" * 20


def small_layout(**formats: Any) -> CacheLayout:
    """The byte layout of `small_config`."""
    return CacheLayout(small_config(), **formats)


def header(layout: CacheLayout | None = None, **changes: Any) -> DocumentHeader:
    """A header with made-up fingerprints; fields replaceable."""
    fields: dict[str, Any] = {"model_name": "tiny", "model_fingerprint": "a" * 64, "tokenizer_fingerprint": "b" * 64}
    return DocumentHeader(**(fields | {"layout": layout or small_layout()} | changes))


def empty_state(layout: CacheLayout | None = None) -> SequenceState:
    """A state that has read nothing, with a pool of its own."""
    layout = layout or small_layout()
    return SequenceState(PagePool(layout, capacity_tokens=2048), empty_tails(layout))


def fake_ids(count: int) -> np.ndarray:
    """The ids that `fake_read` reads."""
    return fake_read(empty_state(), count, step=4096)


def sources_of(count: int, name: str = "snow.txt") -> list[SourceText]:
    """One text of `count` - 1 tokens after BOS."""
    return [SourceText(name=name, text=TEXT, first_token=1, tokens=count - 1)]


def read_on(writer: DocumentWriter, state: SequenceState, count: int, *, step: int = 512) -> None:
    """Let the state take in tokens up to `count`, appending after every step."""
    while state.length < count:
        fake_read(state, min(step - state.length % step, count - state.length), step=step)
        writer.append(state)


def write_document(
    path: Path, count: int, *, layout: CacheLayout | None = None, planned: int | None = None,
    finish: bool = True, close: bool = True, step: int = 512,
) -> SequenceState:  # fmt: skip
    """A document of `count` random tokens (of `planned`), and the state that it was written from.

    `close=False` leaves it as a kill would: without an index.
    """
    planned = count if planned is None else planned
    state = empty_state(layout)
    writer = DocumentWriter.create(path, header(layout))
    writer.append_sources(sources_of(planned), ids=fake_ids(planned))
    read_on(writer, state, count, step=step)
    if finish:
        writer.finish(state)
    size = path.stat().st_size
    writer.close()
    if not close:
        with open(path, "r+b") as file:
            file.truncate(size)
    return state


def flip(path: Path, place: int) -> None:
    """Alter one byte of a file."""
    with open(path, "r+b") as file:
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ 0x20]))


def open_or_nothing(path: Path) -> DocumentReader | None:
    """The document, or None where it rightly says that there is nothing in it yet."""
    try:
        return DocumentReader.open(path)
    except DocumentError as error:
        if any(words in str(error) for words in ("is empty", "inside its head", "nothing folded")):
            return None
        raise


def restored(path: Path, layout: CacheLayout | None = None) -> SequenceState:
    """The state in a document."""
    return DocumentReader.open(path).fill(empty_state(layout))
