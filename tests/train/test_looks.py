"""Sampled looks: clamp rates and quantiles by hand, churn by hand, when they are taken, state."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import pytest
import torch

from octavo.model.block import Block
from octavo.model.transformer import Transformer
from octavo.train.looks import Looks, churn, observe, pre_activations, sample_of
from octavo.train.stabilise import Stabilise
from octavo.train.step import Batch, LossWeights, train_step
from tests.support.training import fresh, plan_of, random_batch, small_config

CONFIG = small_config(compress_ratios=(0, 4, 0), num_hidden_layers=3, num_hash_layers=1, swiglu_limit=2.0)


def ffn(model: Transformer, layer: int):
    return cast(Block, model.layers[layer]).ffn


def test_pre_activations_are_those_of_the_chosen_experts_and_the_shared_one() -> None:
    model, _ = fresh(CONFIG)
    moe, x = ffn(model, 1), torch.randn(5, 24)
    chosen = torch.tensor([[0, 1], [3, 1], [0, 2], [1, 0], [1, 3]])
    gate, up = pre_activations(moe, x, chosen)
    routed, shared = moe.experts, moe.shared_experts
    for values, stack, own in ((gate, routed.w1, shared.w1.weight), (up, routed.w3, shared.w3.weight)):
        expected = [stack[e] @ x[t] for e in range(4) for t in range(5) if e in chosen[t]] + [own @ row for row in x]
        torch.testing.assert_close(values, torch.cat(expected), rtol=0, atol=1e-5)


def test_rates_and_sizes_by_hand() -> None:
    model, _ = fresh(CONFIG)
    batch, seen = random_batch(3), {}
    with torch.no_grad():  # an expert whose values the clamp meets
        ffn(model, 1).experts.w1[0] *= 4.0
    hook = ffn(model, 1).register_forward_pre_hook(lambda _, given: seen.update(x=given[0].detach()))
    found, chosen = observe(model, batch, plan_of())
    hook.remove()
    gate, up = (v.detach() for v in pre_activations(ffn(model, 1), seen["x"], chosen[0]))
    assert found["gate_clamped"][1] == pytest.approx(float((gate > 2).float().mean()))
    assert found["up_clamped"][1] == pytest.approx(float((up.abs() > 2).float().mean()))
    assert 0 < found["gate_clamped"][1] < 0.5
    assert found["gate_clamped"][1] > found["gate_clamped"][2]
    assert found["gate_size"][1] == pytest.approx(float(gate.abs().max()))  # of some thousands, the largest
    assert [len(values) for values in found.values()] == [3] * 4
    assert not ffn(model, 1)._forward_pre_hooks


def test_a_clamp_that_is_off_is_told_for_the_usual_limit() -> None:
    model, _ = fresh(small_config(swiglu_limit=None))
    with torch.no_grad():
        ffn(model, 0).experts.w1 *= 20.0
    found, _ = observe(model, random_batch(2), plan_of())
    assert 0 < found["gate_clamped"][0] < 0.6
    assert found["up_clamped"] == [0.0, 0.0]


def test_churn_compares_sets() -> None:
    before = torch.tensor([[[0, 1], [2, 3], [1, 2], [0, 3]]])
    after = torch.tensor([[[1, 0], [2, 3], [1, 3], [3, 0]]])
    assert churn(before, after).tolist() == [0.25]
    assert churn(before, before).tolist() == [0.0]


def test_looks_come_in_pairs_and_are_said_once() -> None:
    model, optimizer = fresh(CONFIG)
    looks, said = Looks(model, Stabilise(look_every=4, lag=2, look_tokens=64)), []
    for step in range(7):
        batch, plan = random_batch(2, seed=step), plan_of()
        looks.look(step, [batch], plan)
        said.append(sorted(looks.said()))
        assert looks.said() == {}
        train_step(model, optimizer, [batch], plan, LossWeights(bias_speed=0.3))
    clamps = ["gate_clamped", "gate_size", "up_clamped", "up_size"]
    assert said == [clamps, [], ["churn"], [], clamps, [], ["churn"]]


def test_routers_that_stay_have_no_churn_and_others_do() -> None:
    for speed in (0.0, 5.0):
        model, _ = fresh(CONFIG)
        looks = Looks(model, Stabilise(look_every=4, lag=1, look_tokens=64))
        looks.look(0, [random_batch(2)], plan_of())
        for layer in (1, 2):
            ffn(model, layer).gate.get_buffer("bias")[:2] += speed
        looks.look(1, [random_batch(2, seed=5)], plan_of())
        found = looks.said()["churn"]
        assert len(found) == 2
        assert (max(found) == 0.0) == (speed == 0.0)


def test_a_step_back_forgets_later_tokens_and_state_goes_on() -> None:
    model, _ = fresh(CONFIG)
    looks, twin = (Looks(model, Stabilise(look_every=4, lag=2)) for _ in range(2))
    looks.look(4, [random_batch(2)], plan_of())
    twin.restore(*looks.state())
    for one in (looks, twin):
        one.look(6, [random_batch(2, seed=1)], plan_of())
    assert looks.said() == twin.said()
    looks.look(8, [random_batch(2)], plan_of())
    looks.back_to(8)
    looks.look(10, [random_batch(2)], plan_of())
    assert looks.said() == {}


def test_samples_are_whole_rows_or_the_beginning_of_one() -> None:
    batch = random_batch(4)
    assert torch.equal(sample_of(batch, 70).tokens, batch.tokens[:2])
    assert torch.equal(sample_of(batch, 20).tokens, batch.tokens[:1, :20])
    assert sample_of(batch, 999).tokens.shape == (4, 32)
    diluted = Batch(tokens=batch.tokens, weight=batch.weight, positions=batch.positions, dilution=torch.arange(4.0))
    kept = sample_of(diluted, 64).dilution
    assert kept is not None
    assert kept.tolist() == [0.0, 1.0]


def test_looks_can_be_off() -> None:
    model, _ = fresh(CONFIG)
    looks = Looks(model, Stabilise(look_every=None))
    looks.look(0, [random_batch(2)], plan_of())
    assert looks.said() == {}


def test_borders_between_documents_are_looked_at_again() -> None:
    """The same weights choose the same experts where the second look sees the same documents, others where not."""
    model, optimizer = fresh(CONFIG)
    document = (torch.arange(32) >= 11).int().expand(2, 32)
    batch = replace(random_batch(2), document=document)
    for _ in range(6):
        train_step(model, optimizer, [batch], plan_of(), LossWeights())
    kept = sample_of(batch, 20).document
    assert kept is not None
    assert torch.equal(kept, document[:1, :20])
    looks = Looks(model, Stabilise(look_every=4, lag=2))
    looks.look(4, [batch], plan_of())
    tensors, values = looks.state()
    without = {name: value for name, value in tensors.items() if name != "document"}
    churns = []
    for given in (tensors, without):
        looks.restore(given, values)
        looks.look(6, [batch], plan_of())
        churns.append(max(looks.said()["churn"]))
    assert churns[0] == 0.0 < churns[1]
