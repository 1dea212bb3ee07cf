"""The service on a GPU: a tiny model in FP32 over the fused kernels, many streams in one step.

A step of several sequences rounds sums as one of a single sequence does but for their order, so equal bits are not
promised; in FP32 the tokens of this model are the same. What does not depend on the device: `test_service`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

pytest.importorskip("triton")

from octavo.config.errors import UsageError
from octavo.engine.answer import Finish, Prefix
from octavo.engine.llm import LLM
from octavo.engine.serving.events import Cancelled, Ended, Piece
from octavo.engine.serving.job import Grammar, GrammarKind, Job
from octavo.engine.serving.library import Library
from octavo.engine.serving.service import Service
from octavo.engine.serving.settings import ServiceSettings
from octavo.engine.texts import Text
from tests.engine.serving.test_service import SECONDS, Heard, job, prompt, run
from tests.support.gpu_world import gpu_llm

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

LENGTHS = (1, 40, 255, 256, 257, 600, 1100, 1500)
TEXT = "The keeper wrote the date. " * 90


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> LLM:
    return gpu_llm(tmp_path_factory.mktemp("model"))


@pytest.fixture
def service(llm: LLM) -> Iterator[Service]:
    made = Service(llm)
    made.start()
    yield made
    made.check_integrity()
    made.close()
    assert llm.pool.allocator.used == 0, "pages leaked"


def alone(llm: LLM, one: Job) -> list[int]:
    """The answer of a service that does nothing else and remembers nothing."""
    made = Service(llm)
    made.start()
    try:
        return run(made, replace(one, id="alone")).ids
    finally:
        made.close()


def all_of(service: Service, jobs: list[Job]) -> list[Heard]:
    heard = [Heard() for _ in jobs]
    for one, each in zip(jobs, heard, strict=True):
        service.submit(one, each)
    for each in heard:
        assert isinstance(each.wait(), Ended), each.events[-1]
    return heard


def test_one_lane_runs_a_gpu(llm: LLM, service: Service) -> None:
    assert service.lanes == 1
    with pytest.raises(UsageError, match="lanes is 2; a model on a GPU runs in one"):
        Service(llm, ServiceSettings(lanes=2))


def test_eight_streams_answer_as_each_alone_and_take_steps_together(
    llm: LLM, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = [
        job(f"j{i}", prompt(i, n, llm), most=40, temperature=(i % 3 == 2) * 0.7, seed=i) for i, n in enumerate(LENGTHS)
    ]
    expected, sizes, together = [alone(llm, one) for one in jobs], [], llm.runner.together
    monkeypatch.setattr(llm.runner, "together", lambda s, t: (sizes.append(len(s)), together(s, t))[1])
    assert [each.ids for each in all_of(service, jobs)] == expected
    assert max(sizes) == len(jobs)


def test_cancelled_anywhere_nothing_stays(llm: LLM, service: Service) -> None:
    heard = {f"j{i}": Heard() for i in range(40)}
    for i, (id, each) in enumerate(heard.items()):
        service.submit(job(id, prompt(i, (5, 400, 1800)[i % 3], llm), most=40), each)
        if i % 5 > 1:
            if i % 2:
                each.begun.wait(0.02)
            service.cancel(f"j{i - i % 2}")
    lasts = [each.wait() for each in heard.values()]
    assert {type(last) for last in lasts} == {Ended, Cancelled}
    assert all(len(heard[last.id].ids) == 40 for last in lasts if isinstance(last, Ended))


def test_a_prefix_is_read_once(llm: LLM, service: Service) -> None:
    shared = prompt(7, 1500, llm)
    first = run(service, job("a", shared + prompt(8, 30, llm)))
    again = run(service, job("b", shared + prompt(8, 30, llm)))
    assert (again.ended.usage.cached_tokens, again.ended.usage.prefix) == (1280, Prefix.MEMORY)
    assert again.ids == first.ids


def test_short_of_pages_jobs_are_swapped_and_answers_stay(tmp_path: Path) -> None:
    llm = gpu_llm(tmp_path / "model", tokens=12 * 256)
    small = Service(llm)
    small.start()
    run(small, job("kept", prompt(3, 1000, llm), most=2))  # a full pool gives its prefix up
    jobs = [job(f"j{i}", prompt(20 + i, 300, llm), most=400, priority=i) for i in range(4)]
    heard = [Heard() for _ in jobs]
    for one, each in zip(jobs, heard, strict=True):
        small.submit(one, each)
        assert each.begun.wait(SECONDS)  # the first three run, and one of them makes room for the last
    answers = [each.ended and each.ids for each in heard]
    small.check_integrity()
    assert small.status().swaps > 0
    small.close()
    assert answers == [alone(llm, one) for one in jobs]


def test_a_document_is_read_kept_and_asked_by_many(llm: LLM, tmp_path: Path) -> None:
    asked, answers = tuple(llm.question_ids("Who wrote the date?")), []
    for round in range(2):
        service = Service(llm, library=Library(llm, tmp_path))
        service.start()
        if round == 0:
            reading = Heard()
            service.read("r", "tale", [Text(name="tale.txt", text=TEXT)], reading)
            assert reading.ended.usage.prompt_tokens == service.library.info("tale").tokens
        one = job("q", asked, document="tale", sources=True, quote=True)
        heard = all_of(service, [replace(one, id=f"q{i}") for i in range(8)])
        assert len({tuple(each.ids) for each in heard}) == 1
        assert heard[0].ended.sources
        assert heard[0].text.strip() in TEXT
        assert heard[0].ended.usage.cached_tokens == service.library.info("tale").tokens
        service.check_integrity()
        whole = -(-service.library.info("tale").tokens // 256)
        assert service.library.pages() == whole, "the file's pages came in once, for all who ask"
        answers.append(heard[0].ids)
        service.close()
    assert answers[0] == answers[1]
    assert llm.pool.allocator.used == 0


def test_a_prefix_from_disk_is_copied_in(llm: LLM, tmp_path: Path) -> None:
    ids, answers = prompt(9, 1400, llm), []
    for round in range(2):
        service = Service(llm, ServiceSettings(folder=tmp_path))
        service.start()
        heard = run(service, job("a", ids, most=20))
        assert heard.ended.usage.prefix is (Prefix.SNAPSHOT if round else Prefix.NONE)
        answers.append(heard.ids)
        service.check_integrity()
        service.close()
    assert answers[0] == answers[1]


def test_grammar_and_log_probabilities_beside_others(llm: LLM, service: Service) -> None:
    grammar = Grammar(kind=GrammarKind.REGEX, source="(yes|no){2}")
    jobs = [job(f"p{i}", prompt(i, 30, llm), most=60) for i in range(3)]
    ruled = job("a", prompt(1, 20, llm), most=30, grammar=grammar, top_logprobs=3, prompt_logprobs=2)
    heard, *others = all_of(service, [ruled, *jobs])
    assert heard.ended.finish is Finish.END
    assert heard.text in {"yesyes", "yesno", "noyes", "nono"}
    tokens = [token for event in heard.events if isinstance(event, Piece) for token in event.tokens]
    for token in tokens:
        assert token.logprob is not None
        assert len(token.top) == 3
        assert 0 >= token.top[0][2] >= token.top[1][2] >= token.top[2][2]
    assert [each.ids for each in others] == [alone(llm, one) for one in jobs]


def test_documents_are_opened_while_steps_are_captured(llm: LLM, tmp_path: Path) -> None:
    """Opening copies to the GPU, on the thread of whoever asks; a capture in the lane's thread must not see it."""
    with llm.read(Text(name="t", text=TEXT)) as document:
        document.save(tmp_path / "tale.octavo")
    llm.runner.seat(1)
    service, stop = Service(llm), threading.Event()
    faults: list[BaseException] = []

    def open_again_and_again() -> None:
        try:
            while not stop.is_set():
                with llm.open(tmp_path / "tale.octavo") as opened:
                    assert opened.state.tails[0].window.sum().item() >= 0
        except BaseException as fault:
            faults.append(fault)

    thread = threading.Thread(target=open_again_and_again)
    thread.start()
    try:
        llm.runner.graphs._steps.clear()  # type: ignore[attr-defined]
        service.start()
        all_of(service, [job(f"j{i}", prompt(i, 50, llm), most=8 + 4 * i) for i in range(8)])
    finally:
        stop.set()
        thread.join()
        service.close()
    assert not faults
