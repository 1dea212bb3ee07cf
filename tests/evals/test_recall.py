"""Asking a cell of a real (random, tiny) model, and the marks of answers."""

from pathlib import Path

import pytest

from octavo.config.errors import TextError
from octavo.data.tasks.cell import Cell, Question
from octavo.engine.answer import Answer, Finish, Source
from octavo.evals.recall import CellResult, Outcome, covers, outcome, run_cell
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


def test_the_document_is_closed_when_a_question_fails(tmp_path: Path) -> None:
    llm = tiny_llm(tmp_path)
    bad = Question(prompt=" ", answer="x", source=(0, 1), depth=0.0)
    cell = Cell(kind="fact", length=100, seed=10**9, document=STORY, tokens=100, questions=(bad,))
    with pytest.raises(TextError, match="empty"):
        run_cell(llm, cell)
    assert llm.pool.allocator.free == llm.pool.allocator.total
