"""Many documents in one row, whole where they fit, with borders between them.

Covers: which documents a row takes of those that are drawn, joining them, cutting the last one. Does not cover: the
documents, what a border means for a model (octavo.cache.documents).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from octavo.config.errors import LimitError
from octavo.data.row import Row

TRIES = 8
"""Documents drawn for a space that one was too long for."""


def bundle(draw: Callable[[], Row], length: int) -> Row:
    """A row of exactly `length` tokens of documents that `draw` gives, in the order in which they come.

    One that does not fit the space left is set aside, and up to `TRIES` others are drawn for it; where none of them
    fits either, the beginning of the one set aside fills the row. So no document but a row's last one is cut. Which
    documents are taken depends on what `draw` gives alone. Raises LimitError for a length below 1 and for a document
    without tokens.
    """
    if length < 1:
        raise LimitError(f"row length {length} is under 1 token")
    taken: list[Row] = []
    room = length
    while room:
        one = _fitting(draw, room)
        taken.append(one)
        room -= len(one.tokens)
    return joined(taken)


def joined(documents: Sequence[Row]) -> Row:
    """Rows one behind the other, as documents of one."""
    starts = np.cumsum([0, *(len(one.tokens) for one in documents[:-1])])
    return Row(
        tokens=np.concatenate([one.tokens for one in documents]),
        weight=np.concatenate([one.weight for one in documents]),
        span=np.concatenate([one.span + at for one, at in zip(documents, starts, strict=True)]).astype(np.int32),
        kinds=tuple(kind for one in documents for kind in one.kinds),
        starts=np.concatenate([one.starts + at for one, at in zip(documents, starts, strict=True)]).astype(np.int32),
    )


def cut(document: Row, length: int) -> Row:
    """The first `length` tokens; questions whose answer begins behind them go, a source ends with the row."""
    kept = document.span[:, 1] < length
    return Row(
        tokens=document.tokens[:length], weight=document.weight[:length],
        span=np.minimum(document.span[kept], length),
        kinds=tuple(kind for kind, keep in zip(document.kinds, kept.tolist(), strict=True) if keep),
        starts=document.starts[document.starts < length],
    )  # fmt: skip


def _fitting(draw: Callable[[], Row], room: int) -> Row:
    """The next document for a space of `room` tokens."""
    first = _drawn(draw)
    if len(first.tokens) <= room:
        return first
    for _ in range(TRIES):
        other = _drawn(draw)
        if len(other.tokens) <= room:
            return other
    return cut(first, room)


def _drawn(draw: Callable[[], Row]) -> Row:
    one = draw()
    if not len(one.tokens):
        raise LimitError("a document has 0 tokens; a row needs at least 1 of each")
    return one
