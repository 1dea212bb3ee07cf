"""The likeliest of a few answers, against the model's own probabilities of whole sequences."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from octavo.cache.view import Controls
from octavo.config.errors import UsageError
from octavo.engine.llm import LLM
from octavo.evals.choice import likeliest
from tests.support.tiny_llm import STORY, tiny_llm

CHOICES = ("heron", "a crate of oranges", "the keeper", "The sea", "wind")


@pytest.fixture
def llm(tmp_path: Path) -> LLM:
    return tiny_llm(tmp_path, index_topk=16)


def scores(llm: LLM, ids: list[int]) -> list[float]:
    """Of each choice, in the way of writing that begins likelier, in one pass over everything."""
    first = llm.logits(ids).double().softmax(-1)[-1]
    begins, found = [], []
    for space in ("", " "):
        ways = [[*llm.tokenizer.encode(space + choice), llm.config.eos_token_id] for choice in CHOICES]
        begins.append(float(sum(first[token] for token in {own[0] for own in ways})))
        found.append([])
        for own in ways:
            rows = llm.logits([*ids, *own]).double().log_softmax(-1)[len(ids) - 1 : -1]
            found[-1].append(float(rows[torch.arange(len(own)), torch.tensor(own)].sum()))
    return found[begins[1] > begins[0]]


def test_it_is_the_most_probable_choice(llm: LLM) -> None:
    with llm.read(STORY * 3) as document:
        for question in ("What is the secret word?", "Who wrote the date?", "Which?"):
            ids = [*document.texts.ids.tolist(), *document.question_ids(question)]
            expected = scores(llm, ids)
            number, logprob = likeliest(document, question, CHOICES)
            assert expected[number] == max(expected)
            assert logprob == pytest.approx(max(expected), abs=1e-3)
            assert likeliest(document, question, CHOICES[::-1])[0] == len(CHOICES) - 1 - number
            assert likeliest(document, question, [CHOICES[number]] * 3)[0] == 0
    assert llm.pool.allocator.free == llm.pool.allocator.total


def test_controls_reach_every_pass(llm: LLM) -> None:
    with llm.read(STORY * 12) as document:
        plain, off = (
            likeliest(document, "Which?", CHOICES[:1], controls=controls)[1] for controls in (None, Controls(hca=False))
        )
    assert abs(plain - off) > 1e-4


def test_nothing_to_choose_from_is_refused(llm: LLM) -> None:
    with llm.read(STORY) as document, pytest.raises(UsageError, match="choices is empty"):
        likeliest(document, "Which?", ())
