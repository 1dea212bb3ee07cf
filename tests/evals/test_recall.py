"""Asking a cell of a real (random, tiny) model, and the marks of answers."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from octavo.cache.view import Controls
from octavo.config.errors import TextError
from octavo.data.tasks.cell import Cell, Question
from octavo.engine.answer import Answer, Finish, Source
from octavo.evals.choice import likeliest
from octavo.evals.recall import CellResult, Outcome, covers, outcome, run_cell
from octavo.evals.scoring import part_right
from tests.support.tiny_llm import STORY, tiny_llm


def answer(text: str, *spans: tuple[int, int]) -> Answer:
    sources = tuple(Source(file="a", start=s, end=e, text="", weight=0.5) for s, e in spans)
    return Answer(text=text, sources=sources, finish=Finish.END)


def test_only_the_first_source_counts() -> None:
    assert covers(answer("x", (10, 50)), (12, 49))
    assert covers(answer("x", (10, 50)), (9, 51))
    assert not covers(answer("x", (20, 50), (0, 90)), (10, 40))
    assert not covers(answer("x"), (0, 1))


def test_outcome_records_right_and_wrong() -> None:
    question = Question(prompt="?", answer="heron", source=(5, 9), depth=0.25, marks=("a",))
    right = outcome(question, answer("Heron.", (0, 20)))
    assert (right.right, right.source_hit, right.depth, right.marks) == (True, True, 0.25, ("a",))
    assert not outcome(question, answer("herons")).right


def test_shares_by_depth_and_mark() -> None:
    outcomes = tuple(
        Outcome(prompt="", expected="", given="", right=i < 3, source_hit=i == 0, depth=i / 4, marks=("odd",) * (i % 2))
        for i in range(4)
    )
    result = CellResult(
        kind="fact", text="", length=1, tokens=1, seed=1, control="none", outcomes=outcomes, read_seconds=1.0,
        ask_seconds=1.0, cache_bytes=1,
    )  # fmt: skip
    assert (result.right, result.source_hits) == (3, 1)
    assert result.by_depth() == [(1, 1), (1, 1), (1, 1), (0, 1)]
    assert result.by_mark() == {"odd": (1, 2)}


def test_a_cell_runs_on_the_engine(tmp_path: Path) -> None:
    llm = tiny_llm(tmp_path)
    questions = tuple(Question(prompt=p, answer="heron", source=(0, 10), depth=0.1) for p in ("What?", "Who?"))
    cell = Cell(kind="fact", length=100, seed=10**9, document=STORY, tokens=100, questions=questions)
    seen: list[tuple[str, int, int]] = []
    result = run_cell(llm, cell, text="story", max_tokens=8, progress=lambda *state: seen.append(state))
    with llm.read(STORY) as document:
        expected = [document.ask(q.prompt, max_tokens=8, temperature=0.0).text for q in questions]
    assert [o.given for o in result.outcomes] == expected
    assert result.cache_bytes > 0
    assert ("ask", 2, 2) in seen
    assert any(phase == "read" for phase, _, _ in seen)


def test_choices_are_asked_with_the_same_controls(tmp_path: Path) -> None:
    llm, choices = tiny_llm(tmp_path), ("heron", "the keeper", "oranges")
    questions = tuple(
        Question(prompt="Which?", answer=one, source=(0, 10), depth=0.1, choices=choices) for one in choices
    )
    cell = Cell(kind="work", length=100, seed=10**9, document=STORY, tokens=100, questions=questions)
    for controls in (None, Controls(hca=False)):
        result = run_cell(llm, cell, max_tokens=2, options={"controls": controls})
        with llm.read(STORY, controls=controls) as document:
            number, _ = likeliest(document, "Which?", choices, controls=controls)
        assert [one.chosen for one in result.outcomes] == [i == number for i in range(3)]
        assert result.chosen == (1, 3)
    plain = replace(cell, questions=tuple(replace(one, choices=()) for one in questions))
    assert run_cell(llm, plain, max_tokens=2).chosen == (0, 0)


@pytest.mark.parametrize(("kind", "quote"), [("tracking", False), ("two_hop", False), ("fact", None)])
def test_answers_that_are_no_quotation_are_free(tmp_path: Path, kind: str, quote: bool | None) -> None:
    class Quoting:
        """The engine's model, which notes how it was asked."""

        asked: list[object]

        def __init__(self) -> None:
            self.llm = tiny_llm(tmp_path)
            self.asked = []

        def read(self, sources: str, **options: Any) -> "Quoting":
            self.document = self.llm.read(sources, **options)
            return self

        @property
        def nbytes(self) -> int:
            return self.document.nbytes

        def ask(self, question: str, **options: Any) -> Answer:
            self.asked.append(options.get("quote"))
            return self.document.ask(question, **options)

        def close(self) -> None:
            self.document.close()

    question = Question(prompt="Which?", answer="a, b", source=(0, 10), depth=0.1)
    cell = Cell(kind=kind, length=100, seed=10**9, document=STORY, tokens=100, questions=(question,))
    reader = Quoting()
    result = run_cell(reader, cell, max_tokens=3)
    assert reader.asked == [quote]
    assert result.outcomes[0].part == part_right(result.outcomes[0].given, "a, b")


def test_the_document_is_closed_when_a_question_fails(tmp_path: Path) -> None:
    llm = tiny_llm(tmp_path)
    bad = Question(prompt=" ", answer="x", source=(0, 1), depth=0.0)
    cell = Cell(kind="fact", length=100, seed=10**9, document=STORY, tokens=100, questions=(bad,))
    with pytest.raises(TextError, match="empty"):
        run_cell(llm, cell)
    assert llm.pool.allocator.free == llm.pool.allocator.total
