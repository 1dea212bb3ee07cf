"""Questions to a document: on forks, repeatable, within limits, with exact places."""

from __future__ import annotations

from pathlib import Path

import pytest

from octavo.cache.view import Controls, Picks
from octavo.config.errors import LimitError, TextError, UsageError
from octavo.engine.answer import Finish, Prefix
from octavo.engine.llm import LLM
from octavo.engine.sources import SourceRule
from tests.support.tiny_llm import STORY, tiny_llm

LONG = STORY * 6
QUESTION = "What is the secret word?"


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> LLM:
    return tiny_llm(tmp_path_factory.mktemp("model"))


def test_answer_is_that_of_one_sequence_read_from_the_start(llm: LLM) -> None:
    with llm.read(LONG) as doc:
        answer = doc.ask(QUESTION, max_tokens=8)
        ids = [*doc.texts.ids.tolist(), *doc.question_ids(QUESTION)]
    special = llm.tokenizer.special
    question = llm.tokenizer.encode(QUESTION)
    assert ids[len(doc.texts.ids) :] == [special("USER"), *question, special("ASSISTANT"), special("END_THINK")]
    expected = []
    for _ in range(8):
        expected.append(int(llm.logits([*ids, *expected])[-1].argmax()))
    assert list(answer.token_ids) == expected
    assert answer.text == llm.tokenizer.decode(expected).strip()


def test_questions_do_not_disturb_each_other_or_the_document(llm: LLM) -> None:
    with llm.read(LONG) as doc:
        before = doc.state.snapshot()
        first = doc.ask(QUESTION, max_tokens=6)
        others = doc.ask_many(["Who?", QUESTION, "Where is the ship?"], max_tokens=6)
        assert others[1].token_ids == first.token_ids
        assert others[1].sources == first.sources
        assert all((before[name] == value).all() for name, value in doc.state.snapshot().items())
        doc.state.check_integrity()
        allocator = llm.pool.allocator
        assert allocator.total - allocator.free == len(doc.state.pages)


def test_usage_counts_what_was_reused_and_made(llm: LLM) -> None:
    with llm.read(LONG) as doc:
        answer = doc.ask(QUESTION, max_tokens=3)
        assert (doc.usage.read_tokens, doc.usage.reused_tokens) == (len(doc), 0)
        assert doc.usage.prefix is Prefix.NONE
        usage = answer.usage
        assert (usage.read_tokens, usage.reused_tokens, usage.answer_tokens) == (0, len(doc), 3)
        assert usage.question_tokens == len(doc.question_ids(QUESTION))
        assert usage.prefix is Prefix.MEMORY
        assert usage.cache_bytes >= doc.nbytes
        assert usage.seconds > 0
        assert answer.finish is Finish.LENGTH


def test_sources_point_into_the_files(llm: LLM, tmp_path: Path) -> None:
    paths = [tmp_path / "one.txt", tmp_path / "two.txt"]
    contents = {str(paths[0]): STORY, str(paths[1]): "Zwölf Boxkämpfer jagen. Eva quer über den Sylter Deich.\n" * 4}
    for path in paths:
        path.write_bytes(contents[str(path)].encode())
    with llm.read(paths) as doc:
        answer = doc.ask(QUESTION, max_tokens=4, rule=SourceRule(count=5, least=0.0))
    assert {source.file for source in answer.sources} <= set(contents)
    assert len(answer.sources) >= 2
    assert sum(source.weight for source in answer.sources) <= 1 + 1e-9
    for source in answer.sources:
        assert source.text == contents[source.file][source.start : source.end] != ""
    with llm.read(paths) as doc:
        assert doc.ask(QUESTION, max_tokens=4, with_sources=False).sources == ()


def test_text_comes_piece_by_piece(llm: LLM) -> None:
    pieces: list[str] = []
    with llm.read(STORY) as doc:
        answer = doc.ask(QUESTION, max_tokens=8, on_text=pieces.append)
    assert "".join(pieces).strip() == answer.text
    assert len(pieces) > 1


def test_seed_repeats_an_answer(llm: LLM) -> None:
    with llm.read(STORY) as doc:
        drawn = doc.ask(QUESTION, max_tokens=8, temperature=1.0)
        again = doc.ask(QUESTION, max_tokens=8, temperature=1.0, seed=drawn.seed)
        other = doc.ask(QUESTION, max_tokens=8, temperature=1.0, seed=drawn.seed ^ 1)
    assert again.token_ids == drawn.token_ids != other.token_ids


def test_controls_change_what_is_seen(llm: LLM) -> None:
    with llm.read(LONG) as doc:
        plain = doc.ask(QUESTION, max_tokens=6)
        without = doc.ask(QUESTION, max_tokens=6, controls=Controls(hca=False))
        random = doc.ask(QUESTION, max_tokens=6, controls=Controls(picks=Picks.RANDOM))
        again = doc.ask(QUESTION, max_tokens=6)
    assert plain.sources != without.sources
    assert plain.sources != random.sources
    assert plain.sources == again.sources


def test_question_must_say_something_and_fit(tmp_path: Path) -> None:
    llm = tiny_llm(tmp_path, max_position_embeddings=256)
    with llm.read("word " * 20) as doc:
        for empty in ("", " \n"):
            with pytest.raises(TextError, match="the question is empty"):
                doc.ask(empty)
        with pytest.raises(LimitError, match=r"the question: [\d,]+ tokens after [\d,]+ make [\d,]+; .* at 256"):
            doc.ask("why " * 200)
        assert doc.ask("why?", max_tokens=2).usage.answer_tokens > 0
        allocator = llm.pool.allocator
        assert allocator.total - allocator.free == len(doc.state.pages)


def test_bad_request_is_refused_before_anything_runs(llm: LLM) -> None:
    with llm.read(STORY) as doc, pytest.raises(LimitError, match="temperature is nan"):
        doc.ask(QUESTION, temperature=float("nan"))


def test_closed_document_says_so_and_gives_its_pages_back(llm: LLM) -> None:
    doc = llm.read(STORY)
    doc.close()
    doc.close()
    with pytest.raises(UsageError, match="the document is closed"):
        doc.ask(QUESTION)
    assert llm.pool.allocator.free == llm.pool.allocator.total
