"""One update: its gradient at ratio 1 is that of REINFORCE, rows see no filling, experts are replayed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from octavo.cache.view import View
from octavo.model.transformer import Transformer
from octavo.train.reinforce import update as module
from octavo.train.reinforce.objective import Objective
from octavo.train.reinforce.update import Example, Rows, logprobs, old_of, parts_of, rows_of, update
from octavo.train.routing import learned_layers
from tests.support.training import fresh, small_config

RULES = {"temperature": 1.0, "rate": 1.0, "clip": 1e9}


def examples(model: Transformer, *, shift: float = 0.0) -> list[Example]:
    """Answers of several lengths with the log-probabilities that the model gives them, `shift` added."""
    draw, made = np.random.default_rng(0), []
    for size, length, worth in ((5, 3, 1.0), (20, 6, -0.5), (9, 1, 2.0), (130, 4, -1.5)):
        prompt, answer = (tuple(map(int, draw.integers(2, 32, n))) for n in (size, length))
        made.append(Example(prompt=prompt, answer=answer, engine=plain(model, prompt, answer) + shift,
                            advantage=worth, weight=1 / 14))  # fmt: skip
    return made


def plain(model: Transformer, prompt: tuple[int, ...], answer: tuple[int, ...]) -> np.ndarray:
    """Log-probabilities of an answer, the sequence alone in one pass."""
    with torch.no_grad():
        return sequence(model, prompt, answer).double().numpy()


def sequence(model: Transformer, prompt: tuple[int, ...], answer: tuple[int, ...]) -> torch.Tensor:
    ids = torch.tensor(prompt + answer)
    scores = torch.log_softmax(model.logits(model(ids, View.packed([0, len(ids)])).streams).float(), -1)
    rows = torch.arange(len(prompt) - 1, len(ids) - 1)
    return scores[rows, ids[len(prompt) :]]


def world(seed: int = 0):
    model, optimizer = fresh(small_config(), seed=seed)
    with torch.no_grad():
        generator = torch.Generator().manual_seed(seed)
        model.head.weight.normal_(generator=generator, std=0.3)
        for name, parameter in model.named_parameters():
            if name.endswith(".w2"):  # zero at first: which experts are chosen would not matter
                parameter.normal_(generator=generator, std=0.3)
    return model, optimizer


def test_rows_are_filled_up_where_nothing_sees_it() -> None:
    model, _ = world()
    given = examples(model)
    rows = rows_of(given, torch.device("cpu"))
    assert rows.batch.tokens.shape == (4, 256)
    assert len(rows.places) == len(rows.engine) == len(rows.advantage) == 14
    made, _ = logprobs(model, rows, 1.0)
    expected = np.concatenate([one.engine for one in given])
    assert np.allclose(made.detach().numpy(), expected, atol=1e-5)
    assert rows.advantage.tolist() == [1.0] * 3 + [-0.5] * 6 + [2.0] + [-1.5] * 4


def test_parts_hold_all_examples_by_length() -> None:
    model, _ = world()
    parts = parts_of(examples(model), 3, torch.device("cpu"))
    assert [tuple(rows.batch.tokens.shape) for rows in parts] == [(3, 128), (1, 256)]


def test_the_gradient_at_ratio_one_is_that_of_reinforce() -> None:
    model, optimizer = world()
    given = examples(model)
    total = sum(-(one.weight * one.advantage * sequence(model, one.prompt, one.answer)).sum() for one in given)
    assert isinstance(total, torch.Tensor)
    total.backward()
    expected = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    report = update(model, optimizer, parts_of(given, 2, torch.device("cpu")), Objective(), **RULES | {"rate": 0.0})
    assert report.most_ratio == pytest.approx(1.0)
    assert report.gap < 1e-5
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.allclose(found[name], value, atol=1e-5 + 1e-4 * float(value.abs().max())), name


def test_an_update_raises_what_was_worth_more() -> None:
    model, optimizer = world()
    given = examples(model)
    parts = parts_of(given, 4, torch.device("cpu"))
    before = [plain(model, one.prompt, one.answer).sum() for one in given]
    for _ in range(3):
        update(model, optimizer, parts, Objective(clip_low=1.0, clip_high=10.0), temperature=1.0, rate=0.05, clip=1.0)
    after = [plain(model, one.prompt, one.answer).sum() for one in given]
    for one, was, now in zip(given, before, after, strict=True):
        assert (now > was) == (one.advantage > 0)


def test_several_updates_replay_the_experts_of_the_first() -> None:
    model, optimizer = world()
    parts = parts_of(examples(model), 4, torch.device("cpu"))
    old = [old_of(model, rows, 1.0) for rows in parts]
    assert set(old[0].routing) == set(learned_layers(model))
    with torch.no_grad():  # routers that now choose otherwise
        for layer in learned_layers(model):
            gate = model.layers[layer].ffn.gate
            gate.weight.copy_(gate.weight.flip(0) * 40)
    _, free = logprobs(model, parts[0], 1.0)
    _, held = logprobs(model, parts[0], 1.0, old[0].routing)
    layer = learned_layers(model)[0]
    assert not torch.equal(torch.as_tensor(free[layer]), torch.as_tensor(old[0].routing[layer]))
    assert torch.equal(torch.as_tensor(held[layer]), torch.as_tensor(old[0].routing[layer]))
    report = update(model, optimizer, parts, Objective(), old=old, **RULES)
    assert report.most_ratio != 1.0
    assert not report.skipped


def test_tokens_that_the_engine_found_unlikely_weigh_no_more_than_the_limit() -> None:
    def norm(shift: float) -> float:
        model, optimizer = world()
        rows = parts_of(examples(model, shift=shift), 4, torch.device("cpu"))
        return update(model, optimizer, rows, Objective(most_weight=2.0), **RULES | {"rate": 0.0}).grad_norm

    plain_norm = norm(0.0)
    assert norm(-5.0) == pytest.approx(2.0 * plain_norm, rel=1e-4)  # would be e^5
    assert norm(float(np.log(2.0))) == pytest.approx(0.5 * plain_norm, rel=1e-4)


def test_a_gradient_that_is_not_finite_changes_nothing() -> None:
    model, optimizer = world()
    rows = rows_of(examples(model), torch.device("cpu"))
    bad = Rows(batch=rows.batch, places=rows.places, engine=rows.engine, advantage=rows.advantage * torch.inf,
               weight=rows.weight)  # fmt: skip
    before = {name: value.clone() for name, value in model.state_dict().items()}
    report = update(model, optimizer, [bad], Objective(), **RULES)
    assert report.skipped
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert optimizer.step_count == 0


def test_the_divergence_is_from_the_reference() -> None:
    model, optimizer = world()
    other, _ = world(seed=3)
    parts = parts_of(examples(model), 4, torch.device("cpu"))
    rules = Objective(kl=0.5)
    assert update(model, optimizer, parts, rules, reference=model, **RULES | {"rate": 0.0}).divergence < 1e-6
    assert update(model, optimizer, parts, rules, reference=other, **RULES | {"rate": 0.0}).divergence > 1e-3
    assert all(p.grad is None for p in other.parameters())


def test_indexer_and_routers_stay() -> None:
    model, optimizer = world()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    update(model, optimizer, parts_of(examples(model), 4, torch.device("cpu")), Objective(), **RULES)
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert "head.weight" in changed
    assert not [name for name in changed if ".indexer." in name or name.endswith("gate.bias")]
    assert module._GRAIN == 128
