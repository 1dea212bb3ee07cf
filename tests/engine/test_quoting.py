"""Answers in the document's own words: what may come next, whatever the model would rather say."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

import octavo
from octavo.cache.view import Controls
from octavo.config.errors import ConfigError
from octavo.engine.answer import Finish
from octavo.engine.llm import LLM
from octavo.engine.quoting import Quotation, QuoteRule
from tests.support.tiny_llm import STORY, tiny_llm

ANYWHERE = QuoteRule(places=0)


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> LLM:
    return tiny_llm(tmp_path_factory.mktemp("model"))


def stands_in(part: tuple[int, ...], whole: list[int]) -> bool:
    return any(tuple(whole[at : at + len(part)]) == part for at in range(len(whole)))


@pytest.mark.parametrize("question", ["Who?", "What is the secret word?", "Where is the ship?"])
def test_every_answer_stands_in_the_document(llm: LLM, question: str) -> None:
    with llm.read(STORY * 3) as doc:
        free = doc.ask(question, max_tokens=12, quote=False)
        for rule in (True, ANYWHERE, QuoteRule(places=3, reach=5)):
            quoted = doc.ask(question, max_tokens=12, quote=rule)
            assert quoted.token_ids
            assert stands_in(quoted.token_ids, doc.texts.ids.tolist())
            assert quoted.text in STORY * 3
        assert not stands_in(free.token_ids, doc.texts.ids.tolist())  # a random model: otherwise this shows nothing
        drawn = doc.ask(question, max_tokens=12, quote=True, temperature=2.0, seed=5)
        assert stands_in(drawn.token_ids, doc.texts.ids.tolist())


def test_what_may_come_next(llm: LLM) -> None:
    ids = np.array([0, 7, 8, 9, 7, 8, 5, 7])
    made = Quotation(llm.config, ids, np.zeros(9, dtype=bool).__getitem__, {1}, ANYWHERE)
    logits = torch.arange(12.0)

    def allowed() -> list[int]:
        left = made.allowed(logits, ())
        assert torch.equal(left[left > -torch.inf], logits[left > -torch.inf])
        return (left > -torch.inf).nonzero()[:, 0].tolist()

    assert allowed() == [5, 7, 8, 9]  # neither the mark at the beginning nor an end before anything was said
    made.push(7)
    assert allowed() == [1, 8]
    made.push(8)
    assert allowed() == [1, 5, 9]
    made.push(5)
    assert allowed() == [1, 7]
    made.push(7)
    assert allowed() == [1]  # the document is over


def test_no_quotation_begins_or_ends_inside_a_word(llm: LLM) -> None:
    ids = np.array([0, 7, 8, 9, 7, 8, 5, 7])
    inside = np.array([0, 0, 1, 1, 0, 1, 0, 1, 0], dtype=bool)  # 7-8-9 7-8 5-7
    made = Quotation(llm.config, ids, inside.__getitem__, {1}, ANYWHERE)
    logits = torch.zeros(12)

    def allowed() -> list[int]:
        return (made.allowed(logits, ()) > -torch.inf).nonzero()[:, 0].tolist()

    assert allowed() == [5, 7]
    made.push(7)
    assert allowed() == [8]
    made.push(8)
    assert allowed() == [1, 5, 9]  # the second 7-8 is a word of its own
    made.push(9)
    assert allowed() == [1, 7]
    for token in (7, 8, 5):
        made.push(token)
    assert allowed() == [7]
    made.push(7)
    assert allowed() == [1]


def test_answers_are_whole_words(llm: LLM) -> None:
    with llm.read(STORY * 3) as doc:
        for seed in range(12):
            answer = doc.ask("Who?", max_tokens=40, quote=ANYWHERE, temperature=1.5, seed=seed)
            assert answer.finish is Finish.END
            text = answer.text.strip()
            before, after = (r"\b" if text[end].isalnum() else "" for end in (0, -1))
            assert re.search(before + re.escape(text) + after, STORY * 3)


def test_a_quotation_begins_near_the_attention(llm: LLM) -> None:
    rule = QuoteRule(places=1, reach=6)
    with llm.read(STORY * 4) as doc:
        answer = doc.ask("Who?", max_tokens=1, quote=rule, with_sources=True)
        tally = doc.tally()
        state = doc.fork()
        output = llm.runner.read_last(
            np.array(doc.question_ids("Who?")), state, controls=Controls(mass=True)
        )
        state.close()
        tally.add(output.reports, question=True)
        peak = int(tally.weights().argmax())
        near = doc.texts.ids[max(1, peak - 6) : peak + 7]
        assert answer.token_ids[0] in near
        assert answer.finish is Finish.LENGTH


def test_the_models_folder_says_whether_it_quotes(tmp_path: Path) -> None:
    tiny_llm(tmp_path / "model")
    path = tmp_path / "model" / "generation_config.json"
    assert octavo.load(tmp_path / "model").quotes is False
    path.write_text(json.dumps({"quote": True, "temperature": 1.0}))
    model = octavo.load(tmp_path / "model")
    assert model.quotes is True
    with model.read(STORY) as doc:
        assert stands_in(doc.ask("Who?", max_tokens=9).token_ids, doc.texts.ids.tolist())
    for text, message in (('{"quote": 1}', "quote is 1; it must be true or false"), ("[]", "is not a JSON object")):
        path.write_text(text)
        with pytest.raises(ConfigError, match=message):
            octavo.load(tmp_path / "model")


def test_the_shipped_model_quotes() -> None:
    assert octavo.load("octavo-xs").quotes is True
