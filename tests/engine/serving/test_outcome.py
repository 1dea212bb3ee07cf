"""Outcomes of tasks: several answers that go on together, each with its own end and its own failure."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from octavo.config.errors import LimitError, OctavoError
from octavo.engine.llm import LLM
from octavo.engine.request import Request
from octavo.engine.serving.answering import Answering
from octavo.engine.serving.events import Event, Piece
from octavo.engine.serving.hits import Hits
from octavo.engine.serving.job import Job
from octavo.engine.serving.outcome import answer_all, known, outcome_of
from tests.support.bodies import needs_compiled
from tests.support.tiny_llm import tiny_llm


@pytest.fixture
def llm(tmp_path: Path) -> Iterator[LLM]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield tiny_llm(tmp_path, chunk=256)
    torch.set_num_threads(threads)


def answering(llm: LLM, id: str, length: int, heard: list[Event], **fields: object) -> Answering:
    prompt = tuple(np.random.default_rng(length).integers(3, llm.config.vocab_size, length).tolist())
    request = Request(max_tokens=40, **fields)  # type: ignore[arg-type]
    work = Answering(
        llm, Job(id=id, prompt=prompt, request=request), heard.append, hits=Hits(llm.new_state, chunk=256, shelf=None)
    )
    work.start()
    work.read(length, workers=1)
    return work


def tokens(heard: list[Event]) -> list[int]:
    return [token.id for event in heard if isinstance(event, Piece) for token in event.tokens]


@pytest.mark.parametrize("fields", [{}, {"temperature": 0.8, "seed": 5}])
def test_answers_that_go_on_together_are_those_that_go_on_alone(llm: LLM, fields: dict[str, object]) -> None:
    lengths, expected = (5, 250, 300, 511), []
    for length in lengths:
        heard: list[Event] = []
        work = answering(llm, "alone", length, heard, **fields)
        while not answer_all(llm.runner, [work], 1)[0].over:
            pass
        work.close()
        expected.append(tokens(heard))
    told: list[list[Event]] = [[] for _ in lengths]
    works = [answering(llm, str(n), n, h, **fields) for n, h in zip(lengths, told, strict=True)]
    going, taken = list(works), 0
    while going:
        outcomes = answer_all(llm.runner, going, 1)
        assert all(outcome.done == {"answered": 1} for outcome in outcomes)
        going = [work for work, outcome in zip(going, outcomes, strict=True) if not outcome.over]
        taken += 1
    assert taken == 39
    assert [tokens(heard) for heard in told] == expected
    for work in works:
        work.close()


@needs_compiled
def test_one_call_makes_the_step_of_all(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    works, counts, together = [answering(llm, str(n), n, []) for n in (5, 90)], [], llm.runner.together
    monkeypatch.setattr(llm.runner, "together", lambda s, t: (counts.append(len(s)), together(s, t))[1])
    for _ in range(10):
        answer_all(llm.runner, works, 1)
    assert counts == [2] * 10
    for work in works:
        work.close()


@pytest.mark.parametrize("error", [RuntimeError("out of memory"), LimitError("the cache is full")])
def test_where_a_step_of_all_fails_each_takes_its_own(
    llm: LLM, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    heard: list[list[Event]] = [[], []]
    works = [answering(llm, str(n), n, one) for n, one in zip((5, 90), heard, strict=True)]

    together = llm.runner.together

    def fails(stretches: Any, tokens: Any) -> Any:
        if len(stretches) > 1:
            raise error
        return together(stretches, tokens)

    monkeypatch.setattr(llm.runner, "together", fails)
    for _ in range(3):
        assert all(outcome.failure is None for outcome in answer_all(llm.runner, works, 1))
    assert [len(tokens(one)) for one in heard] == [4, 4]  # one of reading, three of steps
    assert len(caplog.records) == (3 if isinstance(error, RuntimeError) else 0)
    for work in works:
        work.close()


def test_a_job_that_was_given_up_or_fails_leaves_the_others_alone(llm: LLM) -> None:
    heard: list[Event] = []
    given_up, failing, fine = answering(llm, "a", 20, []), answering(llm, "b", 30, []), answering(llm, "c", 40, heard)

    def full(event: Event) -> None:
        raise ZeroDivisionError("the listener's")

    failing.tell = full
    given_up.watch.give_up("gone")
    before = len(tokens(heard))
    first, second, third = answer_all(llm.runner, [given_up, failing, fine], 1)
    assert (first.over, first.failure, first.done) == (False, None, {})
    assert "the job failed: ZeroDivisionError" in str(second.failure)
    assert (third.over, third.failure) == (False, None)
    assert len(tokens(heard)) == before + 1
    for work in (given_up, failing, fine):
        work.close()


def test_no_page_for_one_is_that_one_s_failure(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    fine, short = answering(llm, "a", 20, []), answering(llm, "b", 30, [])

    def refuse() -> None:
        raise LimitError("there are no pages")

    monkeypatch.setattr(short, "beside", refuse)
    monkeypatch.setattr(short, "answer", lambda steps, row=None: refuse())
    first, second = answer_all(llm.runner, [fine, short], 1)
    assert (first.done, first.failure) == ({"answered": 1}, None)
    assert isinstance(second.failure, LimitError)
    fine.close()
    short.close()


def test_an_outcome_says_what_the_task_said(llm: LLM) -> None:
    work = answering(llm, "a", 20, [])
    found = outcome_of(work, lambda: (True, {"read": 3}))
    assert (found.over, found.done, found.failure) == (True, {"read": 3}, None)
    work.close()


def test_a_known_error_is_told_as_it_is() -> None:
    error = LimitError("too long")
    assert known(error, "a") is error
    assert type(known(KeyError("x"), "a")) is OctavoError
