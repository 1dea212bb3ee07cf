"""What lessons are made of: exchanges as they stand in the pack, facts the corpus asks, nothing that tests keep."""

from __future__ import annotations

import json
import lzma
from pathlib import Path

import pytest

from octavo.config.errors import ConfigError
from octavo.data.facts_wordings import WORDINGS, fill
from octavo.data.lessons import material
from octavo.data.lessons.material import TASKS_FILE, AskedFact
from octavo.data.tasks.javascript.write import tasks, write_tasks
from tests.support.lesson_pack import lesson_pack, verified
from tests.support.small_text import SmallText, small_text


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> SmallText:
    return lesson_pack(tmp_path_factory.mktemp("pack"))


def test_word_problems_keep_every_line(world: SmallText) -> None:
    first, second = material.word_problems(world.source)
    assert (first.question, first.work, first.result) == (
        "Anna has 3 apples and gets 4. How many are there?", "She has 3+4=7 apples.", "7",
    )  # fmt: skip
    assert second.question == "Two lines.\n\nHow much is 2*5?"
    assert second.work == "2*5=10.\nThat is all."


def test_dialogues_begin_with_the_user_and_end_with_the_assistant(world: SmallText) -> None:
    assert material.dialogues(world.source, "taskmaster") == [
        (("user", "One latte please to go"), ("assistant", "Is the order right?"), ("user", "yes"),
         ("assistant", "It is ready soon.")),
        (("user", "A mocha"), ("assistant", "Gladly.")),
    ]  # fmt: skip
    assert len(material.dialogues(world.source, "chatterbot")) == 2


def test_facts_are_those_that_the_pack_asks_in_trained_wordings(world: SmallText) -> None:
    found = material.asked_facts(world.source)
    assert len(found) == len(set(found))
    assert set(found) <= {
        AskedFact("Velmora", "river", "Sarn"), AskedFact("Dronvas", "founder", "Eda Voss"),
        AskedFact("Andoria", "capital", "Lunn"), AskedFact("Oskar", "trade", "tin"), AskedFact("Unda", "river", "Elm"),
        AskedFact("Klem", "trade", "salt"), AskedFact("Marn", "river", "Ooze"),
    }  # fmt: skip
    assert len(found) >= 4  # the last lines of all facts fill no document
    assert all(fact.subject != "Preist" for fact in found)  # asked in the wording of tests alone


@pytest.mark.parametrize("relation", WORDINGS)
def test_every_trained_question_gives_its_fact_back(relation: str) -> None:
    for subject in ("Velmora", "eel", "Saint Eva of Nor"):
        for question in WORDINGS[relation].trained_questions:
            asked = fill(question, subject=subject)
            found = material._fact(asked, "x")
            assert found is None or found == AskedFact(subject, relation, "x"), asked
    shown = [fill(q, subject="Velmora") for q in WORDINGS[relation].trained_questions]
    assert any(material._fact(asked, "x") is not None for asked in shown)


@pytest.mark.parametrize("relation", WORDINGS)
def test_questions_of_tests_give_none(relation: str) -> None:
    assert material._fact(fill(WORDINGS[relation].questions[-1], subject="Velmora"), "x") is None


def test_programs_are_the_tasks_of_the_file(world: SmallText) -> None:
    made = material.programs(world.pack_folder)
    assert [one.source for one in made] == [task.source for task in verified()]
    assert [one.kind for one in made] == ["write", "repair", "predict"] * 3


def test_a_family_kept_for_tests_is_refused(tmp_path: Path) -> None:
    write_tasks(tmp_path / TASKS_FILE, tasks(range(2 * 10**9, 2 * 10**9 + 2)))
    with lzma.open(tmp_path / TASKS_FILE, "rt") as lines:
        assert [json.loads(line)["held_out"] for line in lines] == [False, True]
    with pytest.raises(ConfigError, match="2 is of family .* which is kept for tests"):
        material.programs(tmp_path)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    bare = small_text(tmp_path, paragraphs=40)
    with pytest.raises(ConfigError, match="the pack has no source 'gsm8k'"):
        material.word_problems(bare.source)
    with pytest.raises(ConfigError, match=r"python -m octavo.data javascript --out .* makes it"):
        material.programs(bare.pack_folder)
