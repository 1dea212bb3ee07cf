"""Rows of many documents: nothing is lost or cut but at the end, and spans stay with their tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavo.config.errors import LimitError
from octavo.data.bundle import TRIES, bundle, cut, joined
from octavo.data.row import Row


def document(number: int, length: int, *, answer: int | None = None) -> Row:
    """Tokens that say document and place; with `answer` one question whose answer begins there."""
    spans = [] if answer is None else [(0, answer, 0, min(answer + 2, length))]
    return Row(
        tokens=(np.arange(length) + 100 * number).astype(np.uint16), weight=np.full(length, number, dtype=np.float32),
        span=np.array(spans, dtype=np.int32).reshape(-1, 4), kinds=("fact",) * len(spans),
    )  # fmt: skip


def given_in_turn(documents: Iterable[Row]) -> Callable[[], Row]:
    source = iter(documents)
    return lambda: next(source)


def test_documents_come_in_order_and_whole() -> None:
    made = bundle(given_in_turn([document(1, 3), document(2, 1), document(3, 4)]), 8)
    assert made.tokens.tolist() == [100, 101, 102, 200, 300, 301, 302, 303]
    assert made.starts.tolist() == [0, 3, 4]
    assert made.weight.tolist() == [1, 1, 1, 2, 3, 3, 3, 3]
    assert (made.tokens.dtype, made.weight.dtype, made.starts.dtype) == (np.uint16, np.float32, np.int32)


def test_what_does_not_fit_makes_room_for_another() -> None:
    made = bundle(given_in_turn([document(1, 5), document(2, 9), document(3, 4), document(4, 3)]), 8)
    assert made.tokens.tolist() == [100, 101, 102, 103, 104, 400, 401, 402]


def test_the_first_that_did_not_fit_is_cut_where_none_does() -> None:
    long = [document(2 + i, 9) for i in range(1 + TRIES)]
    made = bundle(given_in_turn([document(1, 5), *long]), 8)
    assert made.tokens.tolist() == [100, 101, 102, 103, 104, 200, 201, 202]
    assert made.starts.tolist() == [0, 5]


def test_spans_move_with_their_documents_and_go_with_answers_that_are_cut() -> None:
    made = joined([document(1, 4, answer=2), document(2, 5, answer=3)])
    assert made.span.tolist() == [[0, 2, 0, 4], [4, 7, 4, 9]]
    assert (made.kinds, made.span.dtype) == (("fact", "fact"), np.int32)
    assert cut(document(2, 5, answer=3), 4).span.tolist() == [[0, 3, 0, 4]]
    gone = cut(document(2, 5, answer=3), 3)
    assert (gone.span.shape, gone.kinds) == ((0, 4), ())


def test_rows_of_several_documents_are_joined_and_cut_too() -> None:
    pair = joined([document(1, 2), document(2, 3)])
    assert joined([document(3, 1), pair]).starts.tolist() == [0, 1, 3]
    assert cut(pair, 2).starts.tolist() == [0]
    assert cut(pair, 3).starts.tolist() == [0, 2]


def test_wrong_lengths_are_named() -> None:
    with pytest.raises(LimitError, match="row length 0 is under 1 token"):
        bundle(given_in_turn([]), 0)
    with pytest.raises(LimitError, match="a document has 0 tokens"):
        bundle(given_in_turn([document(1, 0)]), 3)


@given(st.integers(1, 60), st.integers(0, 1000))
def test_rows_are_full_of_whole_documents_but_for_the_last(length: int, seed: int) -> None:
    def drawing(draw: Random) -> Callable[[], Row]:
        return lambda: document(1 + draw.randrange(400), draw.choice((1, 2, 5, 9, 40)))

    made, again = bundle(drawing(Random(seed)), length), bundle(drawing(Random(seed)), length)
    assert np.array_equal(made.tokens, again.tokens)
    assert len(made.tokens) == len(made.weight) == len(made.document) == length
    ends = [*made.starts.tolist()[1:], length]
    for start, stop in zip(made.starts.tolist(), ends, strict=True):
        assert made.tokens[start] % 100 == 0
        assert (np.diff(made.tokens[start:stop].astype(int)) == 1).all()
        assert stop - start in (1, 2, 5, 9, 40) or stop == length
