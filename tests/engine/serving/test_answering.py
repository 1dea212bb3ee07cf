"""A prompt and its answer as tasks: where chunks end, what is told, swapping in the middle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from octavo.engine.folding import header_of
from octavo.engine.llm import LLM
from octavo.engine.request import Request
from octavo.engine.serving.answering import Answering
from octavo.engine.serving.events import Ended, Event, Piece, Reading
from octavo.engine.serving.hits import Hits
from octavo.engine.serving.job import Job
from octavo.engine.serving.shelf import Shelf
from octavo.engine.serving.work import GivenUp
from tests.support.tiny_llm import STORY, tiny_llm


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> LLM:
    return tiny_llm(tmp_path_factory.mktemp("model"), chunk=256)


def work(llm: LLM, heard: list[Event], *, length: int = 900, **fields: object) -> Answering:
    ids = np.random.default_rng(1).integers(3, llm.config.vocab_size, length)
    job = Job(id="a", prompt=tuple(ids.tolist()), request=Request(max_tokens=9), **fields)  # type: ignore[arg-type]
    return Answering(llm, job, heard.append, hits=Hits(llm.new_state, chunk=256, shelf=None))


def finish(one: Answering, *, first: int) -> list[int]:
    one.read(first, workers=1)
    over = False
    while not over:
        over = one.answer(2)[1]
    last = one.end()
    assert isinstance(last, Ended)
    end(one)
    return [] if one._made is None else one._made.token_ids


def end(one: Answering) -> None:
    """Close it, and forget what it left for others."""
    one.close()
    one._hits.forget()


def test_however_it_is_cut_the_answer_is_one(llm: LLM) -> None:
    torch.set_num_threads(1)
    answers, said = [], []
    for cuts in ((900,), (256, 256, 388), (512, 388), (256, 256, 256, 132)):
        heard: list[Event] = []
        one = work(llm, heard)
        assert one.start() == (0, 0)
        for count in cuts[:-1]:
            assert not one.read(count, workers=2)
        answers.append(finish(one, first=cuts[-1]))
        said.append([event.done for event in heard if isinstance(event, Reading)])
        assert sum(len(event.tokens) for event in heard if isinstance(event, Piece)) == 9
    assert answers.count(answers[0]) == 4
    assert said == [[256, 512, 768]] * 4
    assert llm.pool.allocator.used == 0


def test_saved_and_restored_in_the_middle(llm: LLM, tmp_path: Path) -> None:
    heard: list[Event] = []
    shelf = Shelf(tmp_path, header_of(llm), max_bytes=2**28)
    plain = work(llm, heard)
    plain.start()
    expected = finish(plain, first=900)
    one = work(llm, heard)
    one.start()
    one.read(512, workers=1)
    for at in ("reading", "answering"):
        one.save(shelf)
        assert llm.pool.allocator.used == one._hits.held(), at
        one.restore(shelf)
        assert shelf.files == 0
        if at == "reading":
            one.read(388, workers=1)
    over = False
    while not over:
        over = one.answer(1)[1]
    assert one._made is not None
    assert one._made.token_ids == expected
    end(one)
    assert llm.pool.allocator.used == 0
    shelf.close()


def test_given_up_in_the_middle_of_a_chunk_run(llm: LLM) -> None:
    heard: list[Event] = []
    one = work(llm, heard)
    one.tell = lambda event: one.watch.give_up("enough") if event.done >= 512 else None  # type: ignore[union-attr]
    one.start()
    with pytest.raises(GivenUp, match="enough"):
        one.read(900, workers=2)
    end(one)
    assert llm.pool.allocator.used == 0


def test_a_document_in_front(llm: LLM) -> None:
    with llm.read(STORY) as document:
        job = Job(
            id="a", prompt=tuple(llm.question_ids("What?")), request=Request(max_tokens=9), document="d", sources=True,
            bins=7,
        )  # fmt: skip
        hits = Hits(llm.new_state, chunk=256, shelf=None)
        one = Answering(llm, job, lambda event: None, hits=hits, document=document, key="d/1")
        assert one.before == len(document)
        assert one.start() == (0, 0)
        one.read(one.total, workers=1)
        over = False
        while not over:
            over = one.answer(1)[1]
        last = one.end()
        assert isinstance(last, Ended)
        answer = document.ask("What?", max_tokens=9)
        assert last.sources == answer.sources
        assert last.map is not None
        assert len(last.map.csa) == len(last.map.hca) == 7
        assert sum(last.map.csa) + sum(last.map.hca) > 0
        assert one.usage().cached_tokens == len(document)
        one.close()


def test_a_grammar_begins_behind_a_token(llm: LLM) -> None:
    from octavo.engine.serving.grammar import Grammars
    from octavo.engine.serving.job import Grammar, GrammarKind

    grammars = Grammars(llm.tokenizer, eos=llm.config.eos_token_id)
    try:
        free = work(llm, [])
        free.start()
        made = finish(free, first=900)
        matcher = grammars.start(Grammar(kind=GrammarKind.REGEX, source="[ab]{3}"))
        job = Job(
            id="a", prompt=free.job.prompt, request=Request(max_tokens=30), grammar_after=made[4],
            grammar=Grammar(kind=GrammarKind.REGEX, source="[ab]{3}"),
        )  # fmt: skip
        heard: list[Event] = []
        one = Answering(llm, job, heard.append, hits=Hits(llm.new_state, chunk=256, shelf=None), rule=matcher)
        one.start()
        ids = finish(one, first=900)
    finally:
        grammars.close()
    first = made.index(made[4]) + 1
    assert ids[:first] == made[:first]
    rest = b"".join(llm.tokenizer.token_bytes(token) for token in ids[first:])
    assert len(rest) == 3
    assert set(rest) <= set(b"ab")
