"""Rows know which token is in which document."""

import numpy as np

from octavo.data.row import Row


def row(length: int, *starts: int) -> Row:
    given = {"starts": np.array(starts, dtype=np.int32)} if starts else {}
    return Row(
        tokens=np.zeros(length, dtype=np.uint16), weight=np.zeros(length, dtype=np.float32),
        span=np.empty((0, 4), dtype=np.int32), kinds=(), **given,
    )  # fmt: skip


def test_a_row_is_one_document_unless_it_says_more() -> None:
    assert row(3).starts.tolist() == [0]
    assert row(3).document.tolist() == [0, 0, 0]


def test_documents_are_numbered_from_their_first_tokens() -> None:
    made = row(6, 0, 1, 4).document
    assert (made.tolist(), made.dtype) == ([0, 1, 1, 1, 2, 2], np.int32)
