"""Files of authored wordings: every line has its fields, training and test wordings are apart."""

from __future__ import annotations

from importlib.resources import files
from random import Random

import pytest

from octavo.data.tasks import authored
from octavo.data.tasks.authored.lines import lines
from octavo.data.tasks.phrasing import Phrasing
from octavo.data.tasks.wordings import near

FIELDS = {
    "fact_statements": "aev", "fact_questions": "ae", "who_questions": "ae", "quote_questions": "q",
    "next_line_questions": "q", "speaker_questions": "q", "several_statements": "aev", "several_questions": "ae",
    "hop_questions": "abe", "step_questions": "abe", "assign_statements": "vx", "holding_questions": "v",
    "trace_questions": "x", "seen_statements": "e", "count_questions": "e", "first_questions": "l",
    "last_questions": "l",
}  # fmt: skip
MORE = ("train_assign_more.txt",)
TRIPLES = ("train_triple_questions.txt", "train_triple_statements.txt")  # see tests/data/test_facts_phrases.py
TEMPLATES = [(name, line) for name in FIELDS for line in lines(f"train_{name}")]


def fields(wording: str) -> str:
    return "".join(sorted(name for name in "abeklqvwx" for _ in range(wording.count(f"{{{name}}}"))))


@pytest.mark.parametrize("name", FIELDS)
def test_wordings_have_their_fields_once_whatever_is_drawn(name: str) -> None:
    draw = Random(0)
    for line in lines(f"train_{name}"):
        made = Phrasing(line)
        assert {fields(made.pick(draw)) for _ in range(30)} == {FIELDS[name]}, line
    for line in lines(f"test_{name}"):
        assert fields(line) == FIELDS[name], line


@pytest.mark.parametrize("name", FIELDS)
def test_there_are_many_and_none_comes_twice(name: str) -> None:
    train, test = lines(f"train_{name}"), lines(f"test_{name}")
    assert len(set(train)) == len(train)
    assert Phrasing(*train).count() >= 120
    assert len(set(test)) == len(test) >= 5


def test_no_file_is_forgotten_or_blank() -> None:
    names = {path.name for path in files(authored).iterdir() if path.name.endswith(".txt")}
    halves = {f"{half}_{name}.txt" for half in ("train", "test") for name in FIELDS}
    assert names == halves | {"train_relations.txt", *TRIPLES, *MORE}
    assert all(line.strip() == line != "" for name in names for line in lines(name[:-4]))


def test_more_assignments_have_their_fields_and_are_far_from_the_tests() -> None:
    draw, templates = Random(2), lines("train_assign_more")
    assert len(set(templates)) == len(templates) >= 20
    for line in templates:
        drawn = [Phrasing(line).pick(draw) for _ in range(40)]
        assert {fields(wording) for wording in drawn} == {"vx"}, line
        assert all("  " not in wording and wording == wording.strip() for wording in drawn), line
        assert sum(near(wording, lines("test_assign_statements")) for wording in drawn) < 8, line


def test_most_draws_are_far_from_the_tests() -> None:
    """A draw near a test wording is drawn again (`Wordings.pick`); that must stay rare, or training would hang."""
    draw = Random(1)
    for name in FIELDS:
        made = Phrasing(*lines(f"train_{name}"))
        close = sum(near(made.pick(draw), lines(f"test_{name}")) for _ in range(300))
        assert close < 30, name


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(FileNotFoundError):
        lines("train_nothing")
