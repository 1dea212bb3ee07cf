"""A spelling kept out of an answer: every way to cut it is seen, and nothing else."""

from __future__ import annotations

from itertools import product

import pytest

from octavo.config.errors import UsageError
from octavo.engine.serving.unsaid import Unsaid

TOKENS = [b"", b"a", b"b", b"c", b"ab", b"bc", b"abc", b"xabcx", b"cab", b"aa", b"abc"]  # the last one a control token
CONTROL = 10


def said(ids: tuple[int, ...]) -> bytes:
    return b"".join(b"|" if id == CONTROL else TOKENS[id] for id in ids)


def test_exactly_the_tokens_that_complete_it_are_told() -> None:
    one, seen = Unsaid(TOKENS, b"abc", apart=[CONTROL]), 0
    for ids in product(range(1, len(TOKENS)), repeat=3):
        tail = b""
        for place, id in enumerate(ids):
            if b"abc" in said(ids[:place]):
                break
            refused = id in one.completing(tail)
            assert refused == (b"abc" in said(ids[: place + 1])), ids[: place + 1]
            seen += refused
            tail = one.after(tail, id)
    assert seen > 100


def test_a_control_token_spells_nothing_and_parts_what_stands_around_it() -> None:
    one = Unsaid(TOKENS, b"abc", apart=[CONTROL])
    assert CONTROL not in one.completing(b"")
    assert one.after(b"ab", CONTROL) == b""
    assert one.after(b"ab", 999) == b"ab"  # an id that the tokenizer has not spells nothing


def test_only_as_much_of_the_end_is_kept_as_matters() -> None:
    one, tail = Unsaid(TOKENS, b"abc"), b""
    for _ in range(50):
        tail = one.after(tail, 9)
    assert tail == b"aaa"


def test_an_empty_spelling_is_refused() -> None:
    with pytest.raises(UsageError, match="spelling is empty"):
        Unsaid(TOKENS, b"")
