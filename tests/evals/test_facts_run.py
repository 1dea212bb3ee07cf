"""Asking for facts: scores are the model's own probabilities; shares, chance and pages."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from octavo.config.engram import EngramConfig
from octavo.evals.facts import FactQuestion, choose, rows
from octavo.evals.facts_run import FactOutcome, ask, log_probabilities, run_facts, summary, to_json, to_markdown, write
from tests.support.tiny_llm import tiny_llm

OUTCOME = FactOutcome(
    id="river:A", group="never", exposures=0, wording="seen", book="closed", control="none", expected="x", given="y",
    right=False, chosen=1, choices=4, logprob=-2.0, best_other=-1.0,
)  # fmt: skip


def test_scores_are_the_probabilities_of_whole_endings(tmp_path: Path) -> None:
    llm = tiny_llm(tmp_path)
    prompt, endings = "The river of the town. Answer:", [" the heron\n", " ship\n", "\n"]
    expected = []
    for ending in endings:
        before = [llm.tokenizer.special("BOS"), *llm.tokenizer.encode(prompt)]
        after = llm.tokenizer.encode(ending)
        logprobs = llm.logits([*before, *after]).double().log_softmax(-1)
        expected.append(sum(float(logprobs[len(before) - 1 + n, token]) for n, token in enumerate(after)))
    assert log_probabilities(llm, prompt, endings) == pytest.approx(expected, abs=1e-4)
    assert llm.pool.allocator.free == llm.pool.allocator.total


def test_the_likeliest_choice_and_the_greedy_line_are_noted(tmp_path: Path) -> None:
    llm = tiny_llm(tmp_path)
    question = FactQuestion(
        id="a", group="invented", exposures=4, wording="seen", prompt="Question: Who? Answer:", passage="It is a ship.",
        choices=("ship", "the", "oranges"),
    )  # fmt: skip
    scores = log_probabilities(llm, question.prompt, [f" {choice}\n" for choice in question.choices])
    best = scores.index(max(scores))
    ordered = (question.choices[best], *(c for c in question.choices if c != question.choices[best]))
    knowing = ask(llm, replace(question, choices=ordered), book="closed")
    assert (knowing.chosen, knowing.logprob) == (0, pytest.approx(max(scores), abs=1e-4))
    assert knowing.best_other == pytest.approx(sorted(scores)[-2], abs=1e-4)
    given = llm.generate(question.prompt, temperature=0.0, max_tokens=24, stop="\n").text.strip()
    assert knowing.given == given
    assert ask(llm, replace(question, choices=(given or "x", "the")), book="closed").right == bool(given)
    opened = ask(llm, question, book="open")
    alone = log_probabilities(llm, "It is a ship.\nQuestion: Who? Answer:", [" ship\n"])
    assert opened.logprob == pytest.approx(alone[0])


def test_every_control_book_and_question_is_asked(tmp_path: Path) -> None:
    llm = tiny_llm(tmp_path, engram=EngramConfig(layers=(1,), rows_per_head=101, head_dim=8, heads_per_order=2))
    questions, told = choose(rows(None), 1, wordings=("seen",))[:2], []
    controls = ("none", "Engram off", "rows permuted")
    outcomes = list(run_facts(llm, questions, controls=controls, progress=lambda *state: told.append(state)))
    assert [(one.control, one.book) for one in outcomes[::2]] == [(c, b) for c in controls for b in ("closed", "open")]
    assert len({one.logprob for one in outcomes if one.id == questions[0].id}) == 6
    assert told[-1] == ("rows permuted, open book", "ask", 2, 2)


def test_chance_is_that_of_the_alternatives() -> None:
    outcomes = [OUTCOME, replace(OUTCOME, chosen=0, choices=2), replace(OUTCOME, book="open", chosen=0, right=True)]
    closed, opened = summary(outcomes)
    assert (closed["choice"]["right"], closed["exact"]["right"], closed["chance"]) == (1, 0, (1 / 4 + 1 / 2) / 2)
    assert closed["at_chance"]
    assert math.isclose(closed["logprob"], -2.0)
    assert (opened["exact"]["share"], opened["choice"]["share"]) == (1.0, 1.0)
    sure = summary([replace(OUTCOME, chosen=0, choices=16)] * 8)[0]
    assert not sure["at_chance"]


def test_reports_hold_every_answer_and_a_column_for_each_control(tmp_path: Path) -> None:
    outcomes = [OUTCOME, replace(OUTCOME, control="rows permuted", chosen=0)]
    found = json.loads(to_json(outcomes, about={"model": "m"}))
    assert found["about"] == {"model": "m"}
    assert [one["chosen"] for one in found["outcomes"]] == [1, 0]
    lines = to_markdown(outcomes).splitlines()
    assert len({line.count("|") for line in lines}) == 1
    assert lines[0].endswith("as it is: choice (95 %) | rows permuted: exact (95 %) | rows permuted: choice (95 %) |")
    assert lines[2].startswith("| closed | seen | never | 0 | 1 | 0.250 | 0.00 (0.00-0.79) | 0.00 (0.00-0.79) | 0.00")
    write(outcomes, tmp_path)
    assert (tmp_path / "facts.md").read_text("utf-8") == to_markdown(outcomes)
