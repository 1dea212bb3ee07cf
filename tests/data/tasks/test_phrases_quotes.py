"""Grammars of questions about quoted words: every wording quotes once, none is kept for tests, none asks two things."""

from __future__ import annotations

from itertools import combinations

import pytest

from octavo.data.tasks import wordings
from tests.support.phrases import bare, check_table

NAMES = ("QUOTE_QUESTIONS", "NEXT_LINE_QUESTIONS", "SPEAKER_QUESTIONS", "CHAPTER_QUESTIONS")


@pytest.mark.parametrize("name", NAMES)
def test_fields_and_halves(name: str) -> None:
    check_table(getattr(wordings, name), "q")


def test_no_wording_asks_two_kinds_of_question() -> None:
    made = {name: {bare(w) for w in [*getattr(wordings, name).more.all(), *getattr(wordings, name).train]}
            for name in NAMES}  # fmt: skip
    for one, other in combinations(NAMES, 2):
        assert not made[one] & made[other], (one, other)
