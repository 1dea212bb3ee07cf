"""Log-probabilities of a step against the definition, ties, and ids that only the model has."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from octavo.config.errors import CheckpointError, UsageError
from octavo.engine.serving.scoring import PromptScores, scored
from octavo.text.tokenizer import Tokenizer

XS = Path(__file__).resolve().parents[3] / "weights" / "octavo-xs"


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.load(XS)


def test_log_probability_is_that_of_the_softmax(tokenizer: Tokenizer) -> None:
    logits = torch.randn(4096, generator=torch.Generator().manual_seed(0)) * 3
    values = [math.exp(value) for value in logits.tolist()]
    made = scored(logits, 700, 5, tokenizer)
    assert (made.id, made.text) == (700, tokenizer.token_bytes(700))
    assert made.logprob == pytest.approx(math.log(values[700] / math.fsum(values)), abs=1e-12)
    order = sorted(range(4096), key=lambda one: (-values[one], one))[:5]
    assert [one for one, _, _ in made.top] == order
    for one, text, logprob in made.top:
        assert text == tokenizer.token_bytes(one)
        assert logprob == pytest.approx(math.log(values[one] / math.fsum(values)), abs=1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_equals_come_by_id(tokenizer: Tokenizer, dtype: torch.dtype) -> None:
    logits = torch.zeros(4096, dtype=dtype)
    logits[[9, 900]] = 1
    made = scored(logits, 50, 20, tokenizer)
    assert [one for one, _, _ in made.top] == [9, 900, *range(9), *range(10, 19)]
    assert made.top[2][2] == made.logprob == pytest.approx(-math.log(4094 + 2 * math.e), abs=1e-12)
    assert scored(logits, 50, 1, tokenizer).top[0][0] == 9


def test_the_rank_counts_what_is_likelier(tokenizer: Tokenizer) -> None:
    logits = torch.tensor([1.0, 3.0, 2.0, 2.0, -torch.inf])
    assert [scored(logits, token, 0, tokenizer).rank for token in range(5)] == [4, 1, 2, 2, 5]


def test_a_prompt_is_scored_a_stretch_at_a_time(tokenizer: Tokenizer) -> None:
    """Row r speaks of the token behind it, also across stretches; the first token has nothing, the last row nobody."""
    logits = torch.randn(6, 40, generator=torch.Generator().manual_seed(3))
    prompt = [7, 3, 9, 3, 30, 12]
    whole = [scored(logits[place], token, 2, tokenizer) for place, token in enumerate(prompt[1:])]
    for cuts in ([6], [1, 5], [2, 2, 2], [5, 1]):
        made, first = PromptScores(prompt, 2, tokenizer), 0
        for count in cuts:
            made.take(logits[first : first + count])
            first += count
        assert made.tokens[0].logprob is None
        assert made.tokens[1:] == whole, cuts


def test_no_alternatives_and_more_than_there_are(tokenizer: Tokenizer) -> None:
    assert scored(torch.zeros(30), 3, 0, tokenizer).top == ()
    assert len(scored(torch.zeros(30), 3, 99, tokenizer).top) == 30


def test_large_logits_and_refused_tokens_stay_exact(tokenizer: Tokenizer) -> None:
    logits = torch.tensor([90_000.0, 90_001.0, -torch.inf])
    made = scored(logits, 0, 3, tokenizer)
    assert made.logprob == pytest.approx(-math.log1p(math.e), abs=1e-9)
    assert [one for one, _, _ in made.top] == [1, 0, 2]
    assert made.top[2][2] == -math.inf


def test_the_logits_are_left_as_they_are(tokenizer: Tokenizer) -> None:
    logits = torch.randn(64, generator=torch.Generator().manual_seed(2))
    kept = logits.clone()
    scored(logits, 1, 4, tokenizer)
    assert torch.equal(logits, kept)


def test_ids_that_only_the_model_has_have_no_bytes(tokenizer: Tokenizer) -> None:
    logits = torch.zeros(4200)
    logits[4150] = 2
    made = scored(logits, 4150, 1, tokenizer)
    assert (made.text, made.top[0][:2]) == (b"", (4150, b""))
    assert made.logprob == pytest.approx(2 - math.log(4199 + math.exp(2)), abs=1e-12)


def test_what_cannot_be_scored_is_refused(tokenizer: Tokenizer) -> None:
    for token in (-1, 40):
        with pytest.raises(UsageError, match=rf"^token is {token}; the logits have 40 entries$"):
            scored(torch.zeros(40), token, 0, tokenizer)
    with pytest.raises(CheckpointError, match="NaN"):
        scored(torch.tensor([0.0, math.nan]), 0, 0, tokenizer)
