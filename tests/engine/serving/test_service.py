"""The service: answers do not depend on what runs beside them, nothing leaks, nothing is lost."""

from __future__ import annotations

import random
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from octavo.config.errors import BusyError, LimitError, MissingError, UsageError
from octavo.engine.answer import Finish, Prefix
from octavo.engine.llm import LLM
from octavo.engine.request import Request
from octavo.engine.serving.events import Cancelled, Ended, Event, Failed, Piece, Reading
from octavo.engine.serving.job import Grammar, GrammarKind, Job
from octavo.engine.serving.library import DocumentState, Library
from octavo.engine.serving.service import Service
from octavo.engine.serving.settings import ServiceSettings
from octavo.engine.texts import Text
from tests.support.documents import flip
from tests.support.tiny_llm import tiny_llm

SECONDS = 60


class Heard:
    """All events of one job."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.over, self.begun = threading.Event(), threading.Event()

    def __call__(self, event: Event) -> None:
        assert not self.over.is_set(), "an event behind the last one"
        self.events.append(event)
        self.begun.set()
        if isinstance(event, Ended | Cancelled | Failed):
            self.over.set()

    def wait(self) -> Event:
        assert self.over.wait(SECONDS), "the job did not end"
        return self.events[-1]

    @property
    def ended(self) -> Ended:
        last = self.wait()
        assert isinstance(last, Ended), last
        return last

    @property
    def ids(self) -> list[int]:
        return [token.id for event in self.events if isinstance(event, Piece) for token in event.tokens]

    @property
    def text(self) -> str:
        return "".join(event.text for event in self.events if isinstance(event, Piece))


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LLM]:
    threads = torch.get_num_threads()
    yield tiny_llm(tmp_path_factory.mktemp("model"), chunk=256, max_position_embeddings=8192)
    torch.set_num_threads(threads)


@pytest.fixture
def service(llm: LLM) -> Iterator[Service]:
    made = Service(llm, ServiceSettings(lanes=2, cache_bytes=2**28))
    made.start()
    yield made
    made.check_integrity()
    made.close()
    assert llm.pool.allocator.used == 0, "pages leaked"


def prompt(seed: int, length: int, llm: LLM) -> tuple[int, ...]:
    return tuple(np.random.default_rng(seed).integers(3, llm.config.vocab_size, length).tolist())


def job(id: str, ids: tuple[int, ...], *, most: int = 8, **fields: object) -> Job:
    request = Request(max_tokens=most, **{k: fields.pop(k) for k in ("temperature", "seed", "stop") if k in fields})  # type: ignore[arg-type]
    return Job(id=id, prompt=ids, request=request, **fields)  # type: ignore[arg-type]


def run(service: Service, one: Job) -> Heard:
    heard = Heard()
    service.submit(one, heard)
    heard.wait()
    return heard


def alone(llm: LLM, one: Job) -> list[int]:
    """The answer of a service that does nothing else and remembers nothing."""
    made = Service(llm, ServiceSettings(lanes=1, cache_bytes=2**28))
    made.start()
    try:
        return run(made, one).ids
    finally:
        made.close()


def test_an_answer_is_that_of_the_model(llm: LLM, service: Service) -> None:
    one = job("a", prompt(1, 700, llm), most=12)
    heard = run(service, one)
    with torch.inference_mode():
        state = llm.new_state()
        expected, ids = [], list(one.prompt)
        logits = None
        for at in range(0, len(ids), 256):
            logits = llm.step(ids[at : at + 256], state)[-1]
        for _ in range(12):
            expected.append(int(logits.argmax()))
            logits = llm.step([expected[-1]], state)[-1]
        state.close()
    assert heard.ids == expected
    assert heard.ended.finish is Finish.LENGTH
    usage = heard.ended.usage
    assert (usage.prompt_tokens, usage.cached_tokens, usage.answer_tokens) == (700, 0, 12)
    assert 0 < usage.queued_seconds <= usage.first_token_seconds <= usage.seconds
    assert [event.done for event in heard.events if isinstance(event, Reading)] == [256, 512]


def test_a_crowd_answers_as_each_alone(llm: LLM, service: Service) -> None:
    lengths = (1, 40, 255, 256, 257, 600, 1100, 2000)
    jobs = [
        job(f"j{i}", prompt(i % 5, n, llm), most=6 + i % 9, temperature=(i % 3) * 0.7, seed=i)
        for i, n in enumerate(lengths * 3)
    ]
    expected = [alone(llm, replace(one, id="x")) for one in jobs]
    heard = [Heard() for _ in jobs]
    for one, each in zip(jobs, heard, strict=True):
        service.submit(one, each)
    assert [each.wait().id for each in heard] == [one.id for one in jobs]
    assert [each.ids for each in heard] == expected


def test_a_prefix_is_read_once_and_changes_nothing(llm: LLM, service: Service) -> None:
    shared = prompt(7, 1500, llm)
    first = run(service, job("a", shared + prompt(8, 30, llm)))
    second = run(service, job("b", shared + prompt(9, 300, llm)))
    again = run(service, job("c", shared + prompt(8, 30, llm)))
    assert first.ended.usage.cached_tokens == 0
    assert second.ended.usage.cached_tokens >= 1024
    assert (again.ended.usage.cached_tokens, again.ended.usage.prefix) == (1280, Prefix.MEMORY)
    assert second.ids == alone(llm, job("x", shared + prompt(9, 300, llm)))
    assert again.ids == first.ids
    salted = run(service, job("d", shared + prompt(8, 30, llm), salt="another"))
    assert salted.ended.usage.cached_tokens == 0


def test_cancelled_anywhere_nothing_stays(llm: LLM, service: Service) -> None:
    draw = random.Random(3)
    heard = {}
    for i in range(60):
        one = job(f"j{i}", prompt(i, draw.choice((5, 400, 1800)), llm), most=40)
        heard[one.id] = Heard()
        service.submit(one, heard[one.id])
        if draw.random() < 0.6:
            victim = draw.choice(list(heard))
            if draw.random() < 0.5:
                heard[victim].begun.wait(0.02)
            service.cancel(victim)
    lasts = [each.wait() for each in heard.values()]
    assert {type(last) for last in lasts} == {Ended, Cancelled}
    for last in lasts:
        if isinstance(last, Ended):
            assert len(heard[last.id].ids) == 40
    service.check_integrity()
    status = service.status()
    assert (status.running, status.waiting) == (0, 0)
    assert status.ended + status.cancelled == 60


def test_one_that_is_late_is_given_up(llm: LLM, service: Service) -> None:
    heard = run(service, job("late", prompt(1, 4000, llm), most=4000, seconds=0.05))
    assert isinstance(heard.wait(), Cancelled)
    assert "time allowed" in heard.wait().why
    assert run(service, job("next", prompt(2, 10, llm))).ended.finish is Finish.LENGTH


def swap_four(small: Service) -> None:
    """Run more answers than `small` has pages for; each must be the one alone. `small` is closed then."""
    llm = small.llm
    small.start()
    jobs = [job(f"j{i}", prompt(20 + i, 300, llm), most=1500, priority=i) for i in range(4)]
    heard = [Heard() for _ in jobs]
    for one, each in zip(jobs, heard, strict=True):
        small.submit(one, each)
        each.begun.wait(SECONDS)
    answers = [(each.wait(), each.ids) for each in heard]
    small.check_integrity()
    assert small.status().swaps > 0
    small.close()
    for one, (last, ids) in zip(jobs, answers, strict=True):
        assert isinstance(last, Ended), last
        assert ids == alone(llm, replace(one, id="x"))


def test_short_of_pages_jobs_are_swapped_and_answers_stay(llm: LLM) -> None:
    page = llm.pool.layout.page_bytes
    small = Service(llm, ServiceSettings(lanes=2, cache_bytes=16 * page))
    swap_four(small)


@pytest.mark.parametrize("how", ["flipped", "removed"])
def test_swap_files_that_are_damaged_or_gone_fail_no_job(
    llm: LLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    page = llm.pool.layout.page_bytes
    small = Service(llm, ServiceSettings(lanes=2, cache_bytes=16 * page, folder=tmp_path))
    save = small.shelf.save_job

    def save_and_harm(id: str, *args: object, **fields: object) -> None:
        save(id, *args, **fields)  # type: ignore[arg-type]
        file = small.shelf._job_path(id)
        file.unlink() if how == "removed" else flip(file, file.stat().st_size // 2)

    monkeypatch.setattr(small.shelf, "save_job", save_and_harm)
    swap_four(small)
    assert small.shelf.lost == small.status().swaps


def test_what_can_never_run_is_refused_at_once(llm: LLM) -> None:
    page = llm.pool.layout.page_bytes
    small = Service(llm, ServiceSettings(lanes=1, cache_bytes=4 * page, max_queue=1, max_running=1))
    heard = Heard()
    with pytest.raises(LimitError, match="prompt"):
        small.submit(job("a", prompt(1, 3000, llm)), heard)
    with pytest.raises(LimitError, match="context of this model ends at 8,192"):
        small.submit(job("a", prompt(1, 8193, llm)), heard)
    with pytest.raises(LimitError, match=r"prompt\[1\] is 400; ids of this model are 0 to 399"):
        small.submit(job("a", (5, 400)), heard)
    with pytest.raises(MissingError, match="no document 'tale'"):
        small.submit(job("a", (5,), document="tale"), heard)
    with pytest.raises(UsageError, match="document name '../tale' is not possible"):
        small.submit(job("a", (5,), document="../tale"), heard)
    small.submit(job("a", (5,)), heard)
    with pytest.raises(UsageError, match="'a' is under way"):
        small.submit(job("a", (5,)), heard)
    with pytest.raises(BusyError, match="1 jobs wait already; the limit is 1"):
        small.submit(job("b", (5,)), Heard())
    assert not heard.events
    small.start()
    assert heard.ended.finish is Finish.LENGTH
    small.close()
    assert llm.pool.allocator.used == 0


def test_grammar_and_log_probabilities(llm: LLM, service: Service) -> None:
    grammar = Grammar(kind=GrammarKind.REGEX, source="(yes|no){2}")
    heard = run(service, job("a", prompt(1, 20, llm), most=30, grammar=grammar, top_logprobs=3))
    assert heard.ended.finish is Finish.END
    assert heard.text in {"yesyes", "yesno", "noyes", "nono"}
    tokens = [token for event in heard.events if isinstance(event, Piece) for token in event.tokens]
    assert b"".join(token.text for token in tokens).decode() == heard.text
    for token in tokens:
        assert token.logprob is not None
        assert token.logprob < 0
        assert len(token.top) == 3
        assert token.top[0][2] >= token.top[1][2] >= token.top[2][2]


def test_stop_strings_and_seeds(llm: LLM, service: Service) -> None:
    ids = prompt(1, 20, llm)
    free = run(service, job("a", ids, most=60, temperature=1.0, seed=5))
    stop = free.text[3:5]
    cut = run(service, job("b", ids, most=60, temperature=1.0, seed=5, stop=stop))
    assert cut.ended.stop == stop
    assert cut.text == free.text[: free.text.index(stop)]
    assert free.ended.seed == 5
    drawn = run(service, job("c", ids, most=10, temperature=1.0))
    assert run(service, job("d", ids, most=10, temperature=1.0, seed=drawn.ended.seed)).ids == drawn.ids


def test_documents_are_read_asked_kept_and_removed(llm: LLM, tmp_path: Path) -> None:
    text = "The keeper wrote the date. " * 90
    asked = tuple(llm.question_ids("Who wrote the date?"))
    answers = []
    for round in range(2):
        service = Service(llm, ServiceSettings(lanes=2, cache_bytes=2**28), library=Library(llm, tmp_path))
        service.start()
        if round == 0:
            reading = Heard()
            service.read("r", "tale", [Text(name="tale.txt", text=text)], reading)
            assert reading.ended.usage.prompt_tokens == service.library.info("tale").tokens > 512
            with pytest.raises(UsageError, match="'tale' is there already"):
                service.read("r2", "tale", [Text(name="tale.txt", text=text)], reading)
        assert service.library.info("tale").state is DocumentState.READY
        heard = run(service, job("q", asked, document="tale", sources=True, quote=True))
        assert heard.ended.sources
        assert heard.text.strip() in text
        assert heard.ended.usage.cached_tokens == service.library.info("tale").tokens
        answers.append((heard.ids, heard.ended.sources))
        service.check_integrity()
        if round == 1:
            service.library.remove("tale")
            assert not list(tmp_path.iterdir())
        service.close()
    assert answers[0] == answers[1]
    with llm.read(Text(name="tale.txt", text=text)) as document:
        assert document.ask("Who wrote the date?", max_tokens=8, quote=True).token_ids == tuple(answers[0][0])
    assert llm.pool.allocator.used == 0


def test_a_document_that_was_cut_short_goes_on(llm: LLM, tmp_path: Path) -> None:
    text = "".join(f"Line {i} says {i * i}. " for i in range(420))
    service = Service(llm, ServiceSettings(lanes=2, cache_bytes=2**28), library=Library(llm, tmp_path))
    service.start()
    first = Heard()
    service.read("r", "tale", [Text(name="t", text=text)], first)
    assert first.begun.wait(SECONDS)
    while not any(isinstance(e, Reading) and e.done >= 512 for e in first.events):
        assert not first.over.wait(0.001)
    service.cancel("r")
    assert isinstance(first.wait(), Cancelled)
    part = service.library.info("tale")
    assert part.state is DocumentState.PART
    assert 512 <= part.done < part.tokens
    second = Heard()
    service.read("r", "tale", [Text(name="t", text=text)], second)
    assert second.ended.usage.cached_tokens >= 512
    assert service.library.info("tale").state is DocumentState.READY
    service.check_integrity()
    service.close()


def test_draining_lets_answers_end_and_takes_no_more(llm: LLM) -> None:
    service = Service(llm, ServiceSettings(lanes=2, cache_bytes=2**28))
    service.start()
    heard, long = Heard(), Heard()
    service.submit(job("a", prompt(1, 100, llm), most=50), heard)
    service.submit(job("b", prompt(1, 100, llm), most=8000), long)
    assert heard.begun.wait(SECONDS)
    closing = threading.Thread(target=service.close, kwargs={"drain_seconds": 1.0})
    closing.start()
    closing.join(SECONDS)
    assert heard.ended.finish is Finish.LENGTH
    assert isinstance(long.wait(), Ended | Cancelled)
    with pytest.raises(BusyError, match="going down"):
        service.submit(job("c", (5,)), Heard())
    assert llm.pool.allocator.used == 0


def test_chunks_of_part_pages_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="chunk is 64; a service needs a multiple of 256"):
        Service(tiny_llm(tmp_path / "m", chunk=64))


def test_a_listener_that_fails_ends_its_own_job_alone(llm: LLM, service: Service) -> None:
    told = threading.Event()

    def broken(event: Event) -> None:
        if isinstance(event, Ended | Cancelled | Failed):
            told.set()
        raise ValueError("the listener is broken")

    for i in range(4):
        told.clear()
        service.submit(job(f"b{i}", prompt(1, 300, llm)), broken)
        assert told.wait(SECONDS)
    assert run(service, job("good", prompt(2, 300, llm))).ended.finish is Finish.LENGTH
    assert service.status().failed == 4


def test_a_fault_nobody_foresaw_ends_its_job_and_no_lane(
    llm: LLM, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: object, **options: object) -> None:
        raise ZeroDivisionError("nobody foresaw this")

    with monkeypatch.context() as patch:
        patch.setattr(llm.runner, "read", broken)
        for i in range(4):  # more than there are lanes
            heard = Heard()
            service.submit(job(f"b{i}", prompt(1, 700, llm)), heard)
            last = heard.wait()
            assert isinstance(last, Failed)
            assert "ZeroDivisionError: nobody foresaw this" in str(last.error)
    with monkeypatch.context() as patch:
        patch.setattr(service.shelf, "drop_job", broken)
        heard = Heard()
        service.submit(job("c", prompt(1, 30, llm)), heard)
        assert isinstance(heard.wait(), Failed)
    assert run(service, job("good", prompt(2, 300, llm))).ended.finish is Finish.LENGTH


def test_the_process_is_afterwards_as_before(llm: LLM) -> None:
    torch.set_num_threads(2)
    before = torch.get_num_threads(), sys.getswitchinterval()
    for _ in range(2):
        service = Service(llm, ServiceSettings(cache_bytes=2**28))
        assert service.lanes == 2
        service.start()
        assert torch.get_num_threads() == 1
        run(service, job("a", prompt(1, 30, llm)))
        service.close()
        assert (torch.get_num_threads(), sys.getswitchinterval()) == before


def test_numbers_ask_the_disk_outside_the_lock(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lanes wait for that lock at every token; a folder of documents may take its time."""
    held, names = list[bool](), service.library.names
    monkeypatch.setattr(service.library, "names", lambda: (held.append(service._change._is_owned()), names())[1])
    assert service.status().documents == 0
    assert held == [False]
