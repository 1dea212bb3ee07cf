"""Taking questions apart on a tiny random model: answers are the engine's own, misses are sorted as measured."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from octavo.config.errors import UsageError
from octavo.data.tasks.cell import Cell, Question
from octavo.engine.llm import LLM
from octavo.evals.anatomy import (
    ATTENDED,
    PICKED,
    REPAIRS,
    evidence_spans,
    run_anatomy,
    run_cells,
    sorted_by_attention,
    sorted_by_repair,
    spread,
    take_apart,
)
from tests.support.tiny_llm import STORY, tiny_llm

DOCUMENT = "\n".join(STORY.replace("heron", f"heron{n}") for n in range(4))
SECRET = DOCUMENT.index("The secret word")
QUESTION = Question(
    prompt="What is the secret word?", answer="heron0", source=(SECRET, SECRET + 41), depth=0.2, marks=("seen",)
)  # fmt: skip


@pytest.fixture
def llm(tmp_path: Path) -> LLM:
    return tiny_llm(tmp_path, index_topk=16)


def test_evidence_covers_its_characters(llm: LLM) -> None:
    with llm.read(DOCUMENT) as document:
        texts, two = document.texts, ((4, 10), (SECRET, SECRET + 41))
        for spans, expected in (
            (evidence_spans(texts, QUESTION), (QUESTION.source,)),
            (evidence_spans(texts, Question(prompt="?", answer="", source=(4, 10), depth=0, evidence=two)), two),
        ):
            assert len(spans) == len(expected)
            for (first, stop), (start, end) in zip(spans, expected, strict=True):
                text, at = texts.passage(texts.entries[0], first, stop)
                assert at <= start
                assert at + len(text) >= end
                assert int(texts.starts(texts.entries[0])[first + 1 - texts.entries[0].first_token]) > start
                assert int(texts.starts(texts.entries[0])[stop - 1 - texts.entries[0].first_token]) < end


def test_answers_are_the_engines_and_a_right_one_does_not_depart(llm: LLM) -> None:
    with llm.read(DOCUMENT) as document:
        given = document.ask(QUESTION.prompt, temperature=0.0, max_tokens=6, quote=False).text
        wrong = take_apart(llm, document, QUESTION, max_tokens=6)
        assert wrong.tried["none"].given == given
        assert (wrong.right, wrong.marks, wrong.statements) == (False, ("seen",), 1)
        assert wrong.departs is not None
        assert wrong.sort == sorted_by_attention(*wrong.reached)
        assert wrong.repaired_by == "nothing"
        assert list(wrong.tried) == list(REPAIRS)
        ids = document.question_ids(QUESTION.prompt)
        ways = [[*llm.tokenizer.encode(space + "heron0"), llm.config.eos_token_id] for space in ("", " ")]
        scores = []
        for way in ways:
            rows = llm.logits([*document.texts.ids.tolist(), *ids, *way]).double().log_softmax(-1)[-len(way) - 1 : -1]
            scores.append(float(rows[torch.arange(len(way)), torch.tensor(way)].sum()))
            if scores[-1] == max(scores):
                chosen = scores[-1] / len(way)
        assert wrong.tried["none"].logprob == pytest.approx(chosen, abs=1e-3)
    assert llm.pool.allocator.free == llm.pool.allocator.total


def test_a_right_answer_is_not_sorted(llm: LLM) -> None:
    with llm.read(DOCUMENT) as document:
        given = document.ask(QUESTION.prompt, temperature=0.0, max_tokens=1, quote=False).text
        question = Question(prompt=QUESTION.prompt, answer=given, source=QUESTION.source, depth=0.2)
        made = take_apart(llm, document, question, max_tokens=1)
        assert made.right
        assert (made.sort, made.repaired_by) == (None, None)
        assert made.departs != 0


def test_layers_tell_the_row_that_decides(llm: LLM) -> None:
    with llm.read(DOCUMENT) as document:
        made = take_apart(llm, document, QUESTION, max_tokens=2)
    assert [row.ratio for row in made.layers] == [0, 4, 128, 4, 128]
    for row in made.layers:
        assert row.evidence + row.others + row.window + row.sink == pytest.approx(1, abs=1e-4)
        assert row.strongest >= row.evidence
        assert (row.rank is None) == (row.picked is None) == (row.ratio != 4)
    best_picked = max(row.picked for row in made.layers if row.picked is not None)
    assert made.reached[0] >= best_picked
    assert made.reached[1] >= max(row.strongest for row in made.layers if row.ratio == 4)


def test_an_answer_that_does_not_depart_under_a_repair_is_not_made_again(
    llm: LLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    with llm.read(DOCUMENT) as document:
        given = document.ask(QUESTION.prompt, temperature=0.0, max_tokens=64, quote=False).text
        asked: list[int] = []
        ask = document.ask
        monkeypatch.setattr(document, "ask", lambda *a, **k: (asked.append(k["max_tokens"]), ask(*a, **k))[1])
        take_apart(llm, document, QUESTION, max_tokens=64)
        expected = len(llm.tokenizer.encode(QUESTION.answer)) + 1
        assert asked[0] == 64
        assert set(asked[1:]) <= {expected + 8, expected + 9}, "no longer than a right answer could be"
        whole = Question(prompt=QUESTION.prompt, answer=given, source=QUESTION.source, depth=0.2)
        asked.clear()
        made = take_apart(llm, document, whole, max_tokens=1)
        same = [name for name, tried in made.tried.items() if tried.right]
        assert len(asked) <= len(REPAIRS) - len(same) + 1


def test_any_beginning_of_an_order_is_spread() -> None:
    assert [spread(n) for n in (1, 2, 4)] == [[0], [0, 1], [0, 2, 1, 3]]
    for count in (7, 64, 192):
        order = spread(count)
        assert sorted(order) == list(range(count))
        assert {place * 4 // count for place in order[: min(8, count)]} == {0, 1, 2, 3}


def test_misses_come_first_when_they_are_looked_for_and_time_ends_it(llm: LLM) -> None:
    with llm.read(DOCUMENT) as document:
        given = document.ask(QUESTION.prompt, temperature=0.0, max_tokens=2, quote=False).text
    right = Question(prompt=QUESTION.prompt, answer=given, source=QUESTION.source, depth=0.2)
    cell = Cell(
        kind="fact", length=300, seed=10**9, document=DOCUMENT, tokens=300, questions=(right, right, right, QUESTION)
    )  # fmt: skip
    told: list[tuple[str, int, int]] = []
    some = run_anatomy(
        llm, cell, sift=True, seconds=0.0, max_tokens=2, progress=lambda *state: told.append(state)
    )
    assert some.sifted == (3, 4)
    assert [one.expected for one in some.questions] == [QUESTION.answer]
    assert [state for state in told if state[0] != "read"] == [
        *(("sift", n, 4) for n in range(1, 5)), ("ask", 1, 4)
    ]  # fmt: skip
    whole = run_anatomy(llm, cell, sift=True, max_tokens=2)
    assert [one.expected for one in whole.questions] == [given, given, given, QUESTION.answer], "in order of the depth"
    assert run_anatomy(llm, cell, seconds=0.0, max_tokens=2).sifted is None
    assert len(run_anatomy(llm, cell, seconds=0.0, max_tokens=2).questions) == 1


def test_misses_are_sorted_by_the_weakest_statement() -> None:
    assert sorted_by_attention(PICKED - 0.1, 1.0) == "not picked"
    assert sorted_by_attention(1.0, ATTENDED - 0.1) == "drowned"
    assert sorted_by_attention(PICKED, ATTENDED) == "read wrong"
    assert {sorted_by_repair(name) for name in ("evidence picked",)} == {"not picked"}
    assert {sorted_by_repair(name) for name in list(REPAIRS)[2:]} == {"drowned"}
    assert sorted_by_repair("nothing") == "read wrong"


def test_a_cell_is_read_once(llm: LLM) -> None:
    cell = Cell(kind="fact", length=300, seed=10**9, document=DOCUMENT, tokens=300, questions=(QUESTION, QUESTION))
    told: list[tuple[str, str, int, int]] = []
    cells = iter([("story", cell)])
    (made,) = run_cells(llm, cells, progress=lambda *state: told.append(state), max_tokens=2)
    assert (made.kind, made.text, len(made.questions)) == ("fact", "story", 2)
    assert made.questions[0] == made.questions[1]
    assert told[-1] == ("fact 300", "ask", 2, 2)
    assert sum(phase == "read" and done == 0 for _, phase, done, _ in told) == 1


def test_a_model_that_cannot_be_watched_is_refused_before_reading(tmp_path: Path) -> None:
    llm = tiny_llm(tmp_path, quant_sim=True)
    cell = Cell(kind="fact", length=300, seed=10**9, document=" ", tokens=300, questions=(QUESTION,))
    with pytest.raises(UsageError, match="rounds nothing"):
        run_anatomy(llm, cell)
