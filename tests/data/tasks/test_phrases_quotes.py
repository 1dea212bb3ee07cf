"""Grammars of questions about quoted words: every wording quotes once, none is kept for tests, none asks two things."""

from __future__ import annotations

from itertools import combinations
from random import Random

import pytest

from octavo.data.tasks import wordings
from octavo.data.tasks.wordings import bare
from tests.support.phrases import DRAWS, check_table

NAMES = ("QUOTE_QUESTIONS", "NEXT_LINE_QUESTIONS", "SPEAKER_QUESTIONS", "CHAPTER_QUESTIONS")


@pytest.mark.parametrize("name", NAMES)
def test_fields_and_halves(name: str) -> None:
    check_table(getattr(wordings, name), "q")


def test_no_wording_asks_two_kinds_of_question() -> None:
    draw = Random(1)
    tables = [getattr(wordings, name) for name in NAMES]
    made = [{bare(table.pick(draw)) for _ in range(DRAWS)} for table in tables]
    for one, other in combinations(made, 2):
        assert not one & other
