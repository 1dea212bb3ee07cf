"""A prompt and its answer as tasks: where chunks end, what is told, swapping in the middle."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from octavo.engine.folding import header_of
from octavo.engine.llm import LLM
from octavo.engine.request import Request
from octavo.engine.serving.answering import Answering
from octavo.engine.serving.events import Ended, Event, Piece, Reading, Scored
from octavo.engine.serving.hits import Hits
from octavo.engine.serving.job import Job
from octavo.engine.serving.ruling import rule_of
from octavo.engine.serving.shelf import Shelf
from octavo.engine.serving.work import GivenUp
from tests.support.documents import flip
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


def harm(folder: Path, how: str) -> None:
    """What may befall the one file of a job."""
    [file] = folder.glob("job-*.octavo")
    if how == "removed":
        file.unlink()
    else:
        flip(file, file.stat().st_size // 2)


@pytest.mark.parametrize("how", ["flipped", "removed"])
@pytest.mark.parametrize("at", [512, 900, 903])
@pytest.mark.parametrize("keeps", [False, True])
def test_a_damaged_or_vanished_file_is_read_again(llm: LLM, tmp_path: Path, how: str, at: int, keeps: bool) -> None:
    """In the middle of the prompt, behind its last token and within the answer; with and without kept prefixes. The
    state has the same bits as before, so the answer is the same."""
    torch.set_num_threads(1)
    shelf = Shelf(tmp_path, header_of(llm), max_bytes=2**28)
    plain = work(llm, [])
    plain.start()
    expected = finish(plain, first=900)
    one = work(llm, heard := [])
    one.start()
    one.read(min(at, 900), workers=1)
    if at > 900:
        one.answer(at - 900)
    if one._made is not None:
        one._made.close()
    kept = one._held().fork()
    one.save(shelf)
    if not keeps:
        one._hits.forget()
    harm(tmp_path, how)
    one.restore(shelf)
    assert one._held().tokens.tolist() == kept.tokens.tolist()
    for name, rows in kept.snapshot(lean=True).items():
        assert torch.equal(rows, one._held().snapshot(lean=True)[name]), name
    kept.close()
    assert (shelf.lost, shelf.files) == (1, 0)
    if at < 900:
        one.read(900 - at, workers=1)
    over = False
    while not over:
        over = one.answer(1)[1]
    assert one._made is not None
    assert one._made.token_ids == expected
    assert sum(len(event.tokens) for event in heard if isinstance(event, Piece)) == 9
    end(one)
    assert llm.pool.allocator.used == 0
    shelf.close()


def test_given_up_while_it_is_read_again(llm: LLM, tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, header_of(llm), max_bytes=2**28)
    one = work(llm, [])
    one.start()
    one.read(768, workers=1)
    one.save(shelf)
    one._hits.forget()
    harm(tmp_path, "removed")
    one.watch.give_up("enough")
    with pytest.raises(GivenUp, match="enough"):
        one.restore(shelf)
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


def test_a_prompt_is_scored_as_it_is_read_and_the_answer_stays(llm: LLM) -> None:
    """However it is cut, also where its beginning is known already: what is known has no rows to be scored."""
    torch.set_num_threads(1)
    plain = work(llm, [])
    plain.start()
    expected = finish(plain, first=900)
    hits, told = Hits(llm.new_state, chunk=256, shelf=None), []
    for cuts in ((900,), (256, 512, 132), (900,)):
        heard: list[Event] = []
        job = replace(plain.job, prompt_logprobs=1)
        one = Answering(llm, job, heard.append, hits=hits)
        assert one.start() == (0, 0)
        for count in cuts[:-1]:
            assert not one.read(count, workers=2)
        one.read(cuts[-1], workers=2)
        while not one.answer(3)[1]:
            pass
        assert one._made is not None
        assert one._made.token_ids == expected
        one.close()
        kinds = [type(event) for event in heard]
        place = kinds.index(Scored)
        assert set(kinds[:place]) == {Reading}
        assert set(kinds[place + 1 :]) == {Piece}
        told.append(heard[place])
    assert told[0] == told[1] == told[2]
    assert [token.id for token in told[0].tokens] == list(plain.job.prompt)
    chances = llm.runner.whole_logits(np.array(plain.job.prompt)).double().log_softmax(-1)
    for place, token in enumerate(told[0].tokens[1:]):
        assert token.logprob == pytest.approx(float(chances[place, token.id]), abs=1e-4)
    hits.forget()
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
        job = Job(
            id="a", prompt=free.job.prompt, request=Request(max_tokens=30), grammar_after=made[4],
            grammar=Grammar(kind=GrammarKind.REGEX, source="[ab]{3}"),
        )  # fmt: skip
        heard, rule = list[Event](), rule_of(job, grammars)
        one = Answering(llm, job, heard.append, hits=Hits(llm.new_state, chunk=256, shelf=None), rule=rule)
        one.start()
        ids = finish(one, first=900)
    finally:
        grammars.close()
    first = made.index(made[4]) + 1
    assert ids[:first] == made[:first]
    rest = b"".join(llm.tokenizer.token_bytes(token) for token in ids[first:])
    assert len(rest) == 3
    assert set(rest) <= set(b"ab")
