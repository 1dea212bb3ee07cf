"""Questions of the closed-book test: the shipped towns, choosing evenly, alternatives, bad files."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from octavo.config.errors import UsageError
from octavo.data.facts import EXPOSURE_STEPS, NEVER_TOWNS, SHOWN_TOWNS, town_facts
from octavo.data.facts_wordings import WORDINGS
from octavo.evals.facts import CHOICES, FactQuestion, choose, rows, towns


@pytest.fixture(scope="module")
def questions() -> list[FactQuestion]:
    return choose(rows(None), 12)


def test_the_towns_are_as_many_as_training_had_and_shown_as_often() -> None:
    facts = towns()
    assert Counter(fact.exposures for fact in facts) == {
        **{2**step: 3 * SHOWN_TOWNS // EXPOSURE_STEPS for step in range(EXPOSURE_STEPS)}, 0: 3 * NEVER_TOWNS,
    }  # fmt: skip
    assert len({(fact.subject, fact.relation) for fact in facts}) == 3 * (SHOWN_TOWNS + NEVER_TOWNS)
    assert not any(fact.asked for fact in facts if fact.group == "never")
    alike = town_facts(lambda word: False)[0]  # the first name was taken by no text, so the draw begins alike
    assert (facts[0].subject, facts[0].answer, facts[0].asked) == (alike.subject, alike.answer, alike.asked)


def test_as_many_of_each_cell_the_same_facts_in_both_wordings(questions: list[FactQuestion]) -> None:
    cells = Counter((one.group, one.exposures, one.wording) for one in questions)
    assert set(cells) == {
        (group, exposures, wording)
        for group, exposures in [("never", 0), *(("invented", 2**step) for step in range(5))]
        for wording in ("held_out", "seen")
    }
    assert set(cells.values()) == {12}
    by_wording = {
        wording: [(one.id.rpartition(":")[0], one.choices) for one in questions if one.wording == wording]
        for wording in ("held_out", "seen")
    }
    assert by_wording["held_out"] == by_wording["seen"]
    relations = Counter(one.id.partition(":")[0] for one in questions)
    assert set(relations.values()) == {len(questions) // 3}


def test_held_out_wordings_are_those_that_training_never_had(questions: list[FactQuestion]) -> None:
    for one in questions:
        relation, subject, _ = one.id.split(":")
        asked = one.prompt.removeprefix("Question: ").removesuffix(" Answer:").replace(subject, "{s}")
        assert (asked in WORDINGS[relation].trained_questions) == (one.wording == "seen")
        assert one.answer in one.passage


def test_alternatives_are_answers_shown_as_often_and_never_the_right_one(questions: list[FactQuestion]) -> None:
    shown = {(f.relation, f.exposures, f.answer) for f in towns()}
    for one in questions:
        assert len(set(one.choices)) == len(one.choices) == CHOICES
        relation = one.id.partition(":")[0]
        assert all((relation, one.exposures, choice) in shown for choice in one.choices)


def test_facts_that_training_asked_for_are_left_out(questions: list[FactQuestion]) -> None:
    asked = {f"{fact.relation}:{fact.subject}" for fact in towns() if fact.asked}
    assert asked
    assert not asked & {one.id.rpartition(":")[0] for one in questions}


def test_a_file_of_other_facts(tmp_path: Path) -> None:
    path = tmp_path / "questions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows(None)[:600]), "utf-8")
    assert len(choose(rows(str(path)), 2, groups=("invented",), wordings=("seen",))) == 10


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON lines of objects"),
        ('{"id": "a"}\n', "row 1 has no answer, asked, exposures"),
        ("[1]\n", "row 1"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "questions.jsonl"
    path.write_text(text, "utf-8")
    with pytest.raises(UsageError, match=message):
        rows(str(path))


def test_bad_choices_are_named() -> None:
    with pytest.raises(UsageError, match="questions 'nowhere' is no file"):
        rows("nowhere")
    with pytest.raises(UsageError, match="unknown kind 'gossip' of facts: it is one of invented, never, real"):
        choose([], 1, groups=("gossip",))
    with pytest.raises(UsageError, match="count is 0"):
        choose([], 0)
    with pytest.raises(UsageError, match="there are no questions of the kinds real"):
        choose(rows(None), 4, groups=("real",))
