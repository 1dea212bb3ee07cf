"""One answer to one prompt, wherever its beginning is kept, whatever runs beside it, whichever protocol asks.

Covers: tokens and their log-probabilities compared for equality: cold, kept in memory, given up, from disk after a
restart, in other chunks, with drafts, in a crowd, swapped out, through every protocol. Does not cover: that an answer
is the model's (`tests.engine.serving.test_service`), documents.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch

from octavo.engine.answer import Prefix
from octavo.engine.llm import LLM, load
from octavo.engine.request import Request
from octavo.engine.serving.events import Cancelled, Ended, Event, Failed, JobUsage, Piece
from octavo.engine.serving.job import Grammar, GrammarKind, Job
from octavo.engine.serving.library import Library
from octavo.engine.serving.service import Service
from octavo.engine.serving.settings import ServiceSettings
from octavo.engine.texts import Text, Texts
from tests.support.listening import running
from tests.support.tiny import tiny_engram
from tests.support.tiny_llm import STORY, tiny_llm

SECONDS = 60
GREEDY = Request(max_tokens=20, draft=0)
DRAWN = Request(max_tokens=20, temperature=0.9, top_p=0.95, seed=11, draft=0)
FILTERED = Request(max_tokens=20, temperature=1.5, top_k=30, min_p=0.01, seed=2**62, draft=0)
LETTERS = Grammar(kind=GrammarKind.REGEX, source="[a-z ]{40,80}")
REQUESTS = pytest.mark.parametrize("request_", [GREEDY, DRAWN], ids=["greedy", "drawn"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """An answer: every token with its log-probability, its text, and what it took."""

    tokens: tuple[tuple[int, float | None], ...]
    text: str
    usage: JobUsage

    @property
    def ids(self) -> list[int]:
        """The tokens alone."""
        return [id for id, _ in self.tokens]

    @property
    def same(self) -> tuple[object, ...]:
        """What must be equal."""
        return self.tokens, self.text


class Asked:
    """A job under way."""

    def __init__(self, service: Service, job: Job) -> None:
        self.id, self._events, self._over = job.id, list[Event](), threading.Event()
        self.begun = threading.Event()
        service.submit(job, self._tell)

    def _tell(self, event: Event) -> None:
        self._events.append(event)
        if isinstance(event, Piece):
            self.begun.set()
        if isinstance(event, Ended | Cancelled | Failed):
            self.begun.set()
            self._over.set()

    def last(self) -> Event:
        """The event that ended it."""
        assert self._over.wait(SECONDS), f"{self.id} does not end"
        return self._events[-1]

    def made(self) -> Made:
        """The answer, which must be whole."""
        last = self.last()
        assert isinstance(last, Ended), last
        pieces = [event for event in self._events if isinstance(event, Piece)]
        tokens = tuple((token.id, token.logprob) for piece in pieces for token in piece.tokens)
        return Made(tokens=tokens, text="".join(piece.text for piece in pieces), usage=last.usage)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("same") / "octavo-tiny"


@pytest.fixture(scope="module")
def llm(folder: Path) -> Iterator[LLM]:
    """A model with everything that a state may hold: window, compressed rows, n-gram memory, rows of the drafter."""
    threads = torch.get_num_threads()
    fields: dict[str, Any] = {"num_nextn_predict_layers": 1, "engram": tiny_engram(), "max_position_embeddings": 8192}
    yield tiny_llm(folder, chunk=256, **fields)
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def other(llm: LLM, folder: Path) -> LLM:
    """The same model, which reads in larger chunks."""
    return load(folder, "float32", chunk=512)


@contextmanager
def serving(llm: LLM, **fields: Any) -> Iterator[Service]:
    """A service that must leave nothing behind; `fields` of its settings."""
    service = Service(llm, ServiceSettings(**({"lanes": 2, "cache_bytes": 2**28} | fields)))
    service.start()
    try:
        yield service
        service.check_integrity()
    finally:
        service.close()
    assert llm.pool.allocator.used == 0, "pages leaked"


def prompt(seed: int, length: int) -> tuple[int, ...]:
    return tuple(np.random.default_rng(seed).integers(16, 380, length).tolist())


def job(ids: Sequence[int], request: Request = GREEDY, id: str = "a", **fields: Any) -> Job:
    return Job(id=id, prompt=tuple(ids), request=request, **({"top_logprobs": 0} | fields))


def ask(service: Service, ids: Sequence[int], request: Request = GREEDY, **fields: Any) -> Made:
    return Asked(service, job(ids, request, **fields)).made()


def cold(llm: LLM, ids: Sequence[int], request: Request = GREEDY, **fields: Any) -> Made:
    """By a service that has seen nothing."""
    with serving(llm, lanes=1) as service:
        made = ask(service, ids, request, **fields)
    assert (made.usage.cached_tokens, made.usage.prefix) == (0, Prefix.NONE)
    assert made.tokens
    return made


@REQUESTS
def test_cold_kept_given_up_and_after_a_restart(llm: LLM, tmp_path: Path, request_: Request) -> None:
    ids = prompt(1, 1500)
    first = cold(llm, ids, request_)
    found = []
    with serving(llm) as service:
        found += [ask(service, ids, request_), ask(service, ids, request_)]
        service.hits.forget()
        found.append(ask(service, ids, request_))
    with serving(llm, folder=tmp_path) as service:
        found.append(ask(service, ids, request_))
        service.hits.settle()
        service.hits.forget()
        found += [ask(service, ids, request_), ask(service, ids, request_)]
    with serving(llm, folder=tmp_path) as service:
        found.append(ask(service, ids, request_))
        found.append(ask(service, ids[:1290] + prompt(2, 40), request_))
        other = found.pop()
    took = [(made.usage.prefix, made.usage.cached_tokens) for made in [*found, other]]
    memory, disk, none = (Prefix.MEMORY, 1280), (Prefix.SNAPSHOT, 1280), (Prefix.NONE, 0)
    assert took[:5] == [none, memory, none, none, disk]
    assert took[5] in (memory, disk)
    assert took[6] == disk
    assert other.usage.cached_tokens == 1280
    for made in found:
        assert made.same == first.same
    assert other.same == cold(llm, ids[:1290] + prompt(2, 40), request_).same


@REQUESTS
def test_in_chunks_of_another_size(llm: LLM, other: LLM, tmp_path: Path, request_: Request) -> None:
    for length in (1, 257, 513):
        ids = prompt(length, length)
        assert cold(other, ids, request_).ids == cold(llm, ids, request_).ids
    shared = prompt(5, 1100)
    with serving(other, folder=tmp_path / "shelf") as service:
        ask(service, shared + prompt(6, 30), request_)
        warm = ask(service, shared + prompt(7, 500), request_)
        assert warm.usage.cached_tokens == 1024
    assert warm.ids == cold(llm, shared + prompt(7, 500), request_).ids
    # The shelf of one chunk size under a service of another: found or not, it must not show.
    with serving(llm, folder=tmp_path / "shelf") as service:
        ids = shared + prompt(6, 30)
        assert ask(service, ids, request_).ids == cold(llm, ids, request_).ids


@REQUESTS
def test_with_drafts_and_without(llm: LLM, tmp_path: Path, request_: Request) -> None:
    ids = prompt(3, 1300)
    first = cold(llm, ids, request_)
    usual, *others = (replace(request_, draft=draft) for draft in (2, 1, 7))
    with serving(llm, folder=tmp_path) as service:
        assert ask(service, ids, usual).same == first.same
        for drafting in (usual, *others, request_):
            assert ask(service, ids, drafting).same == first.same  # from memory
        service.hits.settle()
        for drafting in (usual, request_):
            service.hits.forget()
            again = ask(service, ids, drafting)
            assert again.usage.prefix is Prefix.SNAPSHOT
            assert again.same == first.same
        for length in (1, 2, 255, 256, 257):
            answers = []
            for drafting in (request_, usual, *others):
                service.hits.forget()
                answers.append(ask(service, prompt(30 + length, length), drafting).same)
            assert answers == answers[:1] * 4


def test_alone_and_in_a_crowd_of_which_some_leave(llm: LLM) -> None:
    requests = [GREEDY, DRAWN, FILTERED, replace(GREEDY, draft=2)]
    lengths = (1, 40, 255, 256, 257, 600, 1100, 1800)
    shared = prompt(40, 300)
    rules: list[dict[str, Any]] = [{}, {"no_calls": True}, {"grammar": LETTERS}, {}, {}]
    jobs = [
        job((shared if i % 2 else ()) + prompt(50 + i, lengths[i % 8]), requests[i % 4], id=f"j{i}", priority=i % 3,
            **rules[i % 5])
        for i in range(12)
    ]  # fmt: skip
    expected = [cold(llm, one.prompt, one.request, **rules[i % 5]) for i, one in enumerate(jobs)]
    leaving = [
        job(shared + prompt(70 + i, 1500 if i % 2 else 5), Request(max_tokens=2000), id=f"gone{i}") for i in range(6)
    ]
    with serving(llm) as service:
        for _ in range(2):  # the second time much of it is kept
            gone = [Asked(service, one) for one in leaving[:3]]
            stay = [Asked(service, one) for one in jobs[:6]]
            service.cancel(gone[0].id)
            gone += [Asked(service, one) for one in leaving[3:]]
            stay += [Asked(service, one) for one in jobs[6:]]
            for one in gone[1:]:
                if one.id in ("gone2", "gone4"):
                    assert one.begun.wait(SECONDS)
                service.cancel(one.id)
            assert [one.made().same for one in stay] == [made.same for made in expected]
            assert all(isinstance(one.last(), Cancelled) for one in gone)


def test_swapped_out_and_taken_up_again(llm: LLM) -> None:
    jobs = [
        job(prompt(80 + place, 200), replace(request, max_tokens=250), id=f"j{place}", priority=place)
        for place, request in enumerate((GREEDY, DRAWN, replace(GREEDY, draft=2)))
    ]
    with serving(llm, cache_bytes=5 * llm.pool.layout.page_bytes) as service:
        asked = []
        for one in jobs:  # two fit, the later ones come first
            asked.append(Asked(service, one))
            assert asked[-1].begun.wait(SECONDS)
        made = [one.made() for one in asked]
        assert service.status().swaps >= 1
    with serving(llm) as service:
        assert [ask(service, one.prompt, one.request).same for one in jobs] == [one.same for one in made]
        assert service.status().swaps == 0


@pytest.mark.parametrize("shared", [1, 255, 256, 257, 511, 512, 513, 767, 768, 769, 1023, 1024, 1025])
def test_a_shared_beginning_of_any_length_changes_nothing(llm: LLM, shared: int) -> None:
    front, tails = prompt(100, shared), (1, 2, 256)
    with serving(llm) as service:
        alone = {}
        for tail in tails:
            alone[tail] = ask(service, front + prompt(200 + tail, tail))
            assert alone[tail].usage.cached_tokens == 0
            service.hits.forget()
        ask(service, front + prompt(300, 300))
        for tail in tails:
            made = ask(service, front + prompt(200 + tail, tail))
            kept = shared // 256 * 256
            assert kept - 256 <= made.usage.cached_tokens <= shared
            assert made.same == alone[tail].same
            again = ask(service, front + prompt(200 + tail, tail))
            assert again.usage.cached_tokens >= made.usage.cached_tokens
            assert again.same == alone[tail].same


@pytest.mark.parametrize("length", [230, 255, 256, 257, 500, 512])
def test_a_conversation_goes_on_over_page_borders(llm: LLM, length: int) -> None:
    ids: tuple[int, ...] = prompt(400 + length, length)
    turns = []
    with serving(llm) as service:
        for turn in range(4):
            made = ask(service, ids, replace(GREEDY, max_tokens=30))
            turns.append((ids, made))
            ids = (*ids, *made.ids, *prompt(500 + turn, 3))
        assert turns[-1][1].usage.cached_tokens > 0
        for ids, made in turns:
            service.hits.forget()
            again = ask(service, ids, replace(GREEDY, max_tokens=30))
            assert again.usage.cached_tokens == 0
            assert again.same == made.same


@pytest.mark.parametrize("length", [511, 512, 513])
def test_a_document_that_ends_at_a_page_border(llm: LLM, tmp_path: Path, length: int) -> None:
    text = next(text for text in _prefixes() if len(Texts.encode([text], llm.tokenizer).ids) == length)
    asked = {"document": "tale", "quote": False}
    fronts = [prompt(600 + length, 400), prompt(600, 300)]
    found = []
    for _ in range(2):
        service = Service(llm, ServiceSettings(lanes=2, cache_bytes=2**28), library=Library(llm, tmp_path))
        service.start()
        if not found:
            ended = threading.Event()
            service.read("r", "tale", [text], lambda event, ended=ended: isinstance(event, Ended) and ended.set())
            assert ended.wait(SECONDS)
        for front in fronts:
            made = [ask(service, front + prompt(1, 20), **asked), ask(service, front + prompt(1, 20), **asked)]
            service.hits.forget()
            made.append(ask(service, front + prompt(1, 20), **asked))
            assert [one.usage.cached_tokens > length for one in made] == [False, True, False]
            found.append([one.same for one in made])
        service.check_integrity()
        service.close()
    assert llm.pool.allocator.used == 0
    assert found[:2] == found[2:]
    assert all(one == made[0] for made in found for one in made)
    ids = Texts.encode([text], llm.tokenizer).ids.tolist()
    assert cold(llm, [*ids, *fronts[0], *prompt(1, 20)]).ids == [id for id, _ in found[0][0][0]]  # type: ignore[attr-defined]


def _prefixes() -> Iterator[Text]:
    """Ever longer beginnings of a tale."""
    return (Text(name="t", text=(STORY * 20)[:count]) for count in range(500, 4000))


class Recorded(Service):
    """A service that remembers each prompt and the tokens of its answer."""

    def __init__(self, llm: LLM) -> None:
        super().__init__(llm, ServiceSettings(lanes=2, cache_bytes=2**27))
        self.seen: list[tuple[tuple[int, ...], list[int]]] = []

    def submit(self, job: Job, tell: Callable[[Event], None]) -> None:
        """See `Service.submit`."""
        ids: list[int] = []
        self.seen.append((job.prompt, ids))

        def heard(event: Event) -> None:
            if isinstance(event, Piece):
                ids.extend(token.id for token in event.tokens)
            tell(event)

        super().submit(job, heard)


def _bodies(text: str, more: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    chat = {"model": "octavo-tiny", "messages": [{"role": "user", "content": text}], "max_tokens": 24} | more
    answer = {"model": "octavo-tiny", "input": text, "max_output_tokens": 24} | more
    return [("/v1/chat/completions", chat), ("/v1/messages", chat), ("/v1/responses", answer)]


def _post(client: httpx.Client, path: str, body: dict[str, Any]) -> httpx.Response:
    found = client.post(path, json=body)
    assert found.status_code == 200, found.text
    return found


def test_every_protocol_gives_the_same_tokens(llm: LLM) -> None:
    service, text = Recorded(llm), "What is the secret word of the keeper? " * 30
    with running(service) as server:
        for streams in (False, True):
            for path, body in _bodies(text, {"temperature": 0, "stream": streams}):
                _post(server.client, path, body)
        ids = list(service.seen[0][0])
        plain = {"model": "octavo-tiny", "prompt": ids, "max_tokens": 24, "temperature": 0}
        _post(server.client, "/v1/completions", plain)
        _post(server.client, "/v1/completions", plain | {"stream": True, "logprobs": 5})
        assert len(ids) > 256
        assert {one[0] for one in service.seen} == {tuple(ids)}
        assert len(service.seen) == 8
        assert [one[1] for one in service.seen] == [service.seen[0][1]] * 8
        drawn = {"temperature": 1.0, "seed": 77}
        _post(server.client, *_bodies(text, drawn)[0])
        _post(server.client, "/v1/completions", plain | drawn)
        _post(server.client, "/v1/completions", plain | drawn | {"n": 3})
        single, again, *several = [one[1] for one in service.seen[8:]]
        assert single == again == several[0]
        assert single != service.seen[0][1]
        for place in (1, 2):  # answer number `place` has the seed `seed` + place
            _post(server.client, "/v1/completions", plain | drawn | {"seed": 77 + place})
            assert service.seen[-1][1] == several[place]
