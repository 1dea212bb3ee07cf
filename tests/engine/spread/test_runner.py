"""A model over two processes does what it does in one: logits, answers, documents, a service of many jobs.

Sums of FP32 in another order differ in their last bits, so logits are compared with a tolerance and tokens exactly. A
query may pick another entry where two score alike to six digits; with FP64 (`test_layers`) none does.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from octavo.cache.view import View
from octavo.config.errors import LimitError, UsageError, WorkerError
from octavo.engine.llm import LLM, load
from octavo.engine.request import Request
from octavo.engine.serving.events import Cancelled, Ended, Event, Failed, Piece
from octavo.engine.serving.job import Job
from octavo.engine.serving.service import Service
from octavo.engine.serving.settings import ServiceSettings
from octavo.engine.spread.rank import weight_bytes
from octavo.engine.spread.runner import check_workers
from octavo.engine.spread.shares import share_of
from tests.support.spread_pair import SECONDS, Pair, crew_of, pair, spread_folder

LENGTH = 1400  # 10 HCA blocks, 350 CSA entries (more than are picked), 11 windows of xs, 44 of the tiny model


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with pair(spread_folder(tmp_path_factory.mktemp("model")), chunk=256) as made:
        yield made


@pytest.fixture(scope="module")
def shipped() -> Iterator[Pair]:
    with pair("octavo-xs", chunk=512) as made:  # type: ignore[arg-type]
        yield made


@pytest.fixture(params=["tiny", "shipped"])
def both(request: pytest.FixtureRequest) -> Pair:
    return request.getfixturevalue(request.param)


def ids_of(llm: LLM, count: int, seed: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).integers(3, llm.config.vocab_size, count)


def test_logits_are_those_of_one_process(both: Pair) -> None:
    ids = ids_of(both.one, LENGTH)
    expected = both.one.logits(ids)
    for chunk in (None, 300):
        found = both.two.logits(ids, chunk=chunk)
        apart = (found - expected).abs().amax(dim=1)
        assert apart.median() < 1e-4
        assert (apart > 1e-3).sum() <= LENGTH // 100  # queries of which two entries score alike but for the last bits
        assert apart.max() < 0.2


def test_greedy_tokens_are_those_of_one_process(both: Pair) -> None:
    prompt = "The keeper of the lighthouse wrote the date. " * 60
    options: dict[str, Any] = {"temperature": 0.0, "max_tokens": 32}
    expected, found = (llm.generate(prompt, **options) for llm in (both.one, both.two))
    assert expected.usage.question_tokens > 600
    assert found.token_ids == expected.token_ids
    assert len(found.token_ids) == 32
    assert found.text == expected.text


def test_twice_the_same_bits(both: Pair) -> None:
    ids = ids_of(both.one, 700)
    assert torch.equal(both.two.logits(ids), both.two.logits(ids))
    states = [both.two.new_state() for _ in range(2)]
    for state in states:
        both.two.runner.read(ids, state)
        state.check_integrity()
    assert torch.equal(both.two.step([5], states[0]), both.two.step([5], states[1]))
    for state in states:
        state.close()


def test_weights_are_as_many_as_predicted(both: Pair) -> None:
    predicted = [share.nbytes for share in share_of(both.one.config, 2)]
    assert list(crew_of(both.two).weight_bytes) == predicted
    assert weight_bytes(both.two.model) == predicted[0] < weight_bytes(both.one.model)


def test_the_model_is_the_same_one(both: Pair) -> None:
    assert both.two.fingerprint == both.one.fingerprint
    assert both.two.name == both.one.name


def test_what_runs_is_said(tiny: Pair) -> None:
    assert tiny.two.path == (
        "plain torch operations over 2 processes (gloo), each with its own heads and experts; compiled steps, fused "
        "kernels and drafts are off, since layers are summed between processes"
    )


def test_a_document_answers_as_in_one_process(shipped: Pair, tmp_path: Path) -> None:
    text = "The harbour lies to the north. " * 80 + "The secret word of the keeper is heron. " + "Ships came in. " * 60
    options: dict[str, Any] = {"temperature": 0.0, "max_tokens": 16}
    made = shipped.two.read(text, output=tmp_path / "a.octavo")
    with made, shipped.one.open(tmp_path / "a.octavo") as there, shipped.two.open(tmp_path / "a.octavo") as again:
        answers = [each.ask("What is the secret word?", **options) for each in (there, made, again)]
        assert [answer.text for answer in answers[1:]] == [answers[0].text] * 2
        for answer in answers[1:]:
            for mine, theirs in zip(answer.sources, answers[0].sources, strict=True):
                assert (mine.start, mine.end) == (theirs.start, theirs.end)
                assert mine.weight == pytest.approx(theirs.weight, abs=1e-4)


class Heard:
    """Ids of a job, and its last event."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.last: Event | None = None
        self.begun, self.over = threading.Event(), threading.Event()

    def __call__(self, event: Event) -> None:
        self.last = event
        if isinstance(event, Piece):
            self.ids += [token.id for token in event.tokens]
            self.begun.set()
        if isinstance(event, Ended | Cancelled | Failed):
            self.over.set()

    def end(self) -> Event:
        assert self.over.wait(SECONDS), "the job did not end"
        assert self.last is not None
        return self.last


def started(llm: LLM) -> Service:
    service = Service(llm, ServiceSettings(lanes=2, cache_bytes=2**28))
    service.start()
    return service


def answers(llm: LLM, jobs: list[Job]) -> list[Heard]:
    service, heard = started(llm), [Heard() for _ in jobs]
    for one, each in zip(jobs, heard, strict=True):
        service.submit(one, each)
    for each in heard:
        assert isinstance(each.end(), Ended), each.last
    service.check_integrity()
    service.close()
    assert llm.pool.allocator.used == 0, "pages leaked"
    return heard


def test_a_service_of_four_jobs_at_once(tiny: Pair) -> None:
    lengths = (40, 257, 900, 300)
    jobs = [
        Job(
            id=f"j{i}", prompt=tuple(ids_of(tiny.one, n, seed=i).tolist()),
            request=Request(max_tokens=12, temperature=0.7 * (i % 2), seed=i),
        )
        for i, n in enumerate(lengths)
    ]  # fmt: skip
    jobs.append(replace(jobs[2], id="again"))  # of a prefix that may be held
    together = [each.ids for each in answers(tiny.two, jobs)]
    assert together == [answers(tiny.two, [job])[0].ids for job in jobs]
    assert together == [each.ids for each in answers(tiny.one, jobs)]


def test_swapped_jobs_go_on_where_they_were(tiny: Pair) -> None:
    page = tiny.two.pool.layout.page_bytes
    service = Service(tiny.two, ServiceSettings(lanes=2, cache_bytes=3 * page, prefix_bytes=page))
    service.start()
    request = Request(max_tokens=100, temperature=0.0)
    prompts = [tuple(ids_of(tiny.one, 200, seed=i).tolist()) for i in range(2)]
    jobs = [Job(id=f"j{i}", prompt=prompt, request=request, priority=i) for i, prompt in enumerate(prompts)]
    heard = [Heard() for _ in jobs]
    for one, each in zip(jobs, heard, strict=True):
        service.submit(one, each)
        assert each.begun.wait(SECONDS)
    assert all(isinstance(each.end(), Ended) for each in heard)
    service.check_integrity()
    assert service.status().swaps > 0
    service.close()
    assert [each.ids for each in heard] == [each.ids for each in answers(tiny.one, jobs)]


def test_a_service_hears_of_a_killed_worker(tmp_path: Path) -> None:
    with pair(spread_folder(tmp_path), chunk=256) as made:
        service, heard = started(made.two), [Heard() for _ in range(3)]
        request = Request(max_tokens=4000, temperature=0.0)
        for i, each in enumerate(heard):
            service.submit(Job(id=f"j{i}", prompt=tuple(ids_of(made.one, 20, seed=i).tolist()), request=request), each)
        assert all(each.begun.wait(SECONDS) for each in heard)
        os.kill(crew_of(made.two).pids[0], signal.SIGKILL)
        said = "worker 1 of 2 ended (signal SIGKILL); the model must be loaded again"
        for each in heard:
            last = each.end()
            assert isinstance(last, Failed), last
            assert isinstance(last.error, WorkerError)
            assert str(last.error) == said
        assert made.two.failure == said
        assert made.one.failure is None
        with pytest.raises(WorkerError) as error:
            service.submit(Job(id="next", prompt=(5, 6), request=request), Heard())
        assert str(error.value) == said
        service.close()


def test_limits_come_before_anybody_is_told(tiny: Pair) -> None:
    state = tiny.two.new_state()
    with pytest.raises(LimitError):
        tiny.two.runner.step(np.zeros(20000, dtype=np.int64), state)
    with pytest.raises(UsageError, match="the state belongs to another model"):
        tiny.two.runner.step(np.array([5]), tiny.one.new_state())
    with pytest.raises(UsageError) as error:
        tiny.two.generate("a", draft=3)
    assert str(error.value) == "draft is 3: a model over 2 workers drafts no tokens; leave it out or give 0"
    assert tiny.two.runner.draft_count(None) == 0
    with pytest.raises(UsageError, match="only its runner may run it"):
        tiny.two.model(torch.tensor([5]), View.packed([0, 1]))
    assert tiny.two.step([5], state).shape == (1, 400)
    state.close()


GPUS = torch.cuda.device_count()
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"workers": 0}, "workers is 0; it must be an integer from 1"),
    ({"workers": True}, "workers is True; it must be an integer from 1"),
    ({"workers": 2, "weights": "int8"}, "workers need weights as they are stored; workers is 2, weights is 'int8'"),
    ({"workers": 2, "offload_engram": True},
     "workers hold their weights in memory; workers is 2, and weights are offloaded"),
    ({"workers": 2, "device": "cuda:1"},
     "device is 'cuda:1'; with workers it must be cpu, or cuda for the first 2 GPUs"),
    ({"workers": 64, "device": "cuda"}, f"workers is 64; there are {GPUS} GPUs, and each needs one"),
    ({"workers": 3}, "workers is 3; it must divide n_routed_experts 8"),
]  # fmt: skip


@pytest.mark.parametrize(("options", "said"), REFUSED)
def test_what_workers_do_not_go_with(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as error:
        load("octavo-xs", **options)
    assert str(error.value) == said


def test_one_worker_is_this_process() -> None:
    rules = {"weights": None, "offloaded": False, "device": "cpu"}
    assert check_workers(None, **rules) == check_workers(1, **rules) == 1
    assert check_workers(1, weights="int8", offloaded=True, device="meta") == 1
    assert not type(load("octavo-xs", workers=1).runner).__name__.startswith("Spread")
