"""Asking: a model that knows the references scores 1, one that knows mutants 0; estimates and reports."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from octavo.config.errors import UsageError
from octavo.data.tasks.javascript.task import TEST_SEEDS, build
from octavo.evals.javascript import Problem, generated
from octavo.evals.javascript_run import pass_at, run_problems, summary, to_json, to_markdown, write
from octavo.evals.writer import Written
from octavo.sandbox import Limits, Sandbox


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(Limits(seconds=5)) as made:
        yield made


@pytest.fixture(scope="module")
def problems(sandbox: Sandbox) -> list[Problem]:
    return generated(4, sandbox)


class Knowing:
    """A writer with a table of functions, whole; greedy answers and those of even seeds are taken from it."""

    def __init__(self, table: dict[str, str]) -> None:
        self.table = table
        self.seen: list[dict[str, Any]] = []

    def complete(self, prompt: str, requests: Sequence[dict[str, Any]]) -> list[Written]:
        self.seen += requests
        return [self._gone_on(prompt, options) for options in requests]

    def _gone_on(self, prompt: str, options: dict[str, Any]) -> Written:
        if options.get("seed", 0) % 2:
            return Written(text="  return", finish="length", tokens=2)
        body = self.table[prompt].partition("{\n")[2]
        return Written(text=body.partition(options["stop"])[0], finish="stop", tokens=9)

    def reply(self, message: str, requests: Sequence[dict[str, Any]]) -> list[Written]:
        source = next(source for prompt, source in self.table.items() if prompt.rstrip() in message)
        return [Written(text=f"Like this:\n```js\n{source}```\n", finish="end", tokens=9)] * len(requests)


def test_references_score_one_in_both_forms(problems: list[Problem], sandbox: Sandbox) -> None:
    told = []
    writer = Knowing({p.prompt: "{\n" + p.reference for p in problems})
    results = list(run_problems(writer, problems, sandbox, samples=4, progress=lambda *step: told.append(step)))
    (row, known, held_out) = summary(results)
    assert (row["pass@1"]["share"], row["runs"]["share"]) == (1.0, 1.0)
    assert (row["drawn pass@1"]["share"], row["drawn pass@4"]["share"], row["drawn runs"]["share"]) == (0.5, 1.0, 0.5)
    assert (known["problems"], held_out["problems"]) == (2, 2)
    assert told[-1] == ("complete", "ask", 4, 4)
    assert writer.seen[0] == {"temperature": 0.0, "max_tokens": 256, "stop": "\n}"}
    assert [options["seed"] for options in writer.seen[1:5]] == [0, 1, 2, 3]
    whole = Knowing({p.prompt: p.prompt + p.reference for p in problems})
    chat = list(run_problems(whole, problems, sandbox, forms=("chat",), samples=0))
    assert summary(chat)[0]["pass@1"]["share"] == 1.0
    assert "drawn runs" not in summary(chat)[0]


def test_mutants_score_nothing(problems: list[Problem], sandbox: Sandbox) -> None:
    broken = {build(seed, sandbox).prompt: build(seed, sandbox).broken for seed in range(TEST_SEEDS, TEST_SEEDS + 4)}
    results = list(run_problems(Knowing(broken), problems, sandbox, samples=2))
    row = summary(results)[0]
    assert row["pass@1"]["right"] == row["drawn pass@2"]["share"] == 0
    assert row["pass@1"]["low"] == 0.0 < row["pass@1"]["high"] < 1.0


def test_pass_at_is_the_share_of_subsets_with_a_right_answer() -> None:
    for drawn, solved, k in ((5, 2, 1), (5, 2, 3), (6, 0, 2), (6, 6, 1), (6, 5, 2)):
        subsets = list(itertools.combinations(range(drawn), k))
        share = sum(any(one < solved for one in subset) for subset in subsets) / len(subsets)
        assert pass_at(k, drawn, solved) == pytest.approx(share)
    with pytest.raises(UsageError, match="pass@7 of 6 answers"):
        pass_at(7, 6, 1)


def test_reports_hold_every_answer(problems: list[Problem], sandbox: Sandbox, tmp_path: Path) -> None:
    writer = Knowing({p.prompt: "{\n" + p.reference for p in problems})
    results = list(run_problems(writer, problems[:1], sandbox, samples=2))
    document = json.loads(to_json(results, about={"model": "m"}))
    assert document["about"] == {"model": "m"}
    assert document["answers"][0]["greedy"]["answer"] == problems[0].prompt + problems[0].reference
    assert [verdict["solved"] for verdict in document["answers"][0]["drawn"]] == [True, False]
    lines = to_markdown(results).splitlines()
    assert len({line.count("|") for line in lines}) == 1
    assert lines[2].startswith("| complete | known family | 1 | 1.000 (0.207-1.000) |")
    write(results, tmp_path)
    assert (tmp_path / "javascript.md").read_text("utf-8") == to_markdown(results)
    assert json.loads((tmp_path / "javascript.json").read_text("utf-8"))["shares"] == document["shares"]


def test_an_unknown_form_is_refused(problems: list[Problem], sandbox: Sandbox) -> None:
    with pytest.raises(UsageError, match="unknown kind 'poem' of asking for JavaScript: it is one of complete, chat"):
        next(run_problems(Knowing({}), problems, sandbox, forms=("poem",)))
