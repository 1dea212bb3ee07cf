"""Answers of the engine: the same by seed, log-probabilities that training finds too, new weights after a refresh."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from octavo.config.errors import LimitError
from octavo.model.transformer import Transformer
from octavo.train.reinforce.rollout import Actor, Drawing, Sample, seed_of
from tests.support.training import fresh, small_config

PROMPT = (3, 7, 9, 4, 11, 20, 5, 8, 2, 30, 17, 6)


def sharp(seed: int = 0) -> Transformer:
    """A model whose head tells tokens apart."""
    model, _ = fresh(small_config(), seed=seed)
    with torch.no_grad():
        model.head.weight.copy_(torch.randn(model.head.weight.shape, generator=torch.Generator().manual_seed(seed)))
    return model


def trained_logits(model: Transformer, ids: tuple[int, ...]) -> Tensor:
    """[T, V] as training computes them."""
    from octavo.cache.view import View

    tokens = torch.tensor(ids)
    return model.logits(model(tokens, View.packed([0, len(ids)])).streams).detach().double()


def test_seeds_give_their_answers_alone_and_together() -> None:
    actor, how = Actor(sharp()), Drawing(max_tokens=10)
    together = actor.draw(PROMPT, [5, 6, 7], how)
    assert [one.ids for one in together] == [actor.draw(PROMPT, [seed], how)[0].ids for seed in (5, 6, 7)]
    assert len({one.ids for one in together}) > 1
    many = actor.draw(PROMPT, list(range(20)), how)
    assert many[5].ids == together[0].ids
    assert len(many) == 20


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_log_probabilities_are_those_of_training(temperature: float) -> None:
    model = sharp()
    for one in Actor(model).draw(PROMPT, [1, 2, 3, 4], Drawing(max_tokens=12, temperature=temperature)):
        scores = torch.log_softmax(trained_logits(model, PROMPT + one.ids) / temperature, -1)
        rows = torch.arange(len(PROMPT) - 1, len(PROMPT) + len(one.ids) - 1)
        expected = scores[rows, torch.tensor(one.ids)].numpy()
        assert one.logprobs.dtype == np.float64
        assert np.allclose(one.logprobs, expected, atol=2e-5)


def test_the_likeliest_tokens_at_temperature_zero() -> None:
    model = sharp()
    one = Actor(model).draw(PROMPT, [0], Drawing(max_tokens=8, temperature=0.0))[0]
    ids = PROMPT
    for token in one.ids:
        assert int(trained_logits(model, ids)[-1].argmax()) == token
        ids += (token,)


def test_an_answer_ends_with_its_mark_or_its_length() -> None:
    model = sharp()
    end = model.config.eos_token_id
    found: list[Sample] = []
    for seed in range(0, 40, 8):
        found += Actor(model).draw(PROMPT, list(range(seed, seed + 8)), Drawing(max_tokens=20))
    assert {one.ended for one in found} == {True, False}
    for one in found:
        assert (one.ids[-1] == end) == one.ended
        assert end not in one.ids[:-1]
        assert len(one.ids) == len(one.logprobs) <= 20
        assert one.ended or len(one.ids) == 20


def test_a_refresh_takes_the_weights_as_they_are() -> None:
    model = sharp()
    actor, how = Actor(model), Drawing(max_tokens=10, temperature=0.0)
    before = actor.draw(PROMPT, [0], how)[0].ids
    with torch.no_grad():
        model.head.weight.copy_(sharp(9).head.weight)
    assert actor.draw(PROMPT, [0], how)[0].ids == before
    actor.refresh()
    assert actor.draw(PROMPT, [0], how)[0].ids != before
    assert model.head.weight.requires_grad


def test_seeds_are_functions_of_their_place() -> None:
    places = [(s, p, k) for s in range(4) for p in range(4) for k in range(4)]
    seeds = {seed_of(1, *place) for place in places}
    assert len(seeds) == len(places)
    assert seed_of(1, 2, 3, 0) == seed_of(1, 2, 3, 0) != seed_of(2, 2, 3, 0)


def test_what_has_no_room_is_refused() -> None:
    actor = Actor(sharp())
    limit = actor._model.config.max_position_embeddings
    with pytest.raises(LimitError, match="a prompt and its longest answer"):
        actor.draw(PROMPT, [0], Drawing(max_tokens=limit))
    with pytest.raises(LimitError, match="no tokens"):
        actor.draw((), [0], Drawing(max_tokens=4))
