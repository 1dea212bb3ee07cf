"""Routing by earlier weights: experts recorded and replayed, the ring's lag, old routers, state, what still learns."""

from __future__ import annotations

from typing import cast

import pytest
import torch
from torch import Tensor

from octavo.cache.view import Controls, View
from octavo.config.errors import UsageError
from octavo.model.block import Block
from octavo.model.transformer import Transformer
from octavo.train.optim import Optimizer
from octavo.train.routing import Prepare, RouteAhead, StaleRouters, learned_layers, route_only
from octavo.train.schedule import StepPlan
from octavo.train.step import Batch, LossWeights, train_step, view_of
from tests.support.training import fresh, plan_of, random_batch, small_config

CONFIG = small_config(compress_ratios=(0, 4, 0), num_hidden_layers=3, num_hash_layers=1)
WEIGHTS = LossWeights(bias_speed=0.05)


def batches(step: int) -> tuple[list[Batch], StepPlan]:
    """Two micro-batches of unequal size."""
    return [random_batch(2, seed=step), random_batch(1, seed=100 + step)], plan_of()


PREPARE = Prepare(batches, 8)


def run(
    kind: type[RouteAhead] | type[StaleRouters] | None, lag: int = 0, steps: int = 3
) -> tuple[Transformer, Optimizer]:
    """A few steps from one start, with the routing of `kind`."""
    model, optimizer = fresh(CONFIG)
    routing = None if kind is None else kind(model, lag)
    if routing is not None:
        routing.begin(0, PREPARE)
    for step in range(steps):
        parts, plan = batches(step)
        chosen = None if routing is None else routing.routing(step, parts, PREPARE)
        train_step(model, optimizer, parts, plan, WEIGHTS, routing=chosen)
    return model, optimizer


def same(a: Transformer, b: Transformer) -> bool:
    one, other = a.state_dict(), b.state_dict()
    return all(torch.equal(one[name], other[name]) for name in one)


def chosen_by(model: Transformer, batch: Batch) -> list[Tensor]:
    """The experts of each layer in a plain forward pass."""
    reports = model(batch.tokens.flatten(), view_of(batch, plan_of())).reports
    return [report.load.experts for report in reports if report.load is not None]


def test_without_a_lag_everything_is_as_without_the_ring_bit_for_bit() -> None:
    plain, _ = run(None)
    assert same(plain, run(RouteAhead)[0])
    assert same(plain, run(StaleRouters)[0])


def test_with_a_lag_training_differs_and_both_kinds_differ() -> None:
    plain, ahead, stale = run(None)[0], run(RouteAhead, 2)[0], run(StaleRouters, 2)[0]
    assert not same(plain, ahead)
    assert not same(plain, stale)
    assert not same(ahead, stale)


def test_route_only_finds_the_experts_of_learned_layers() -> None:
    model, _ = run(None, steps=2)
    parts, plan = batches(5)
    found = route_only(model, parts, plan)
    assert (found.dtype, found.shape) == (torch.uint8, (2, 96, CONFIG.num_experts_per_tok))
    assert learned_layers(model) == [1, 2]
    expected = [torch.cat([chosen_by(model, part)[layer] for part in parts]) for layer in (1, 2)]
    assert torch.equal(found.long(), torch.stack(expected))


def test_experts_of_a_step_were_chosen_by_the_weights_of_lag_steps_before() -> None:
    model, optimizer = fresh(CONFIG)
    ahead, was = RouteAhead(model, 2), {}
    ahead.begin(0, PREPARE)
    for step in range(6):
        if step + 2 < 8:
            was[step + 2] = route_only(model, *batches(step + 2))
        parts, plan = batches(step)
        chosen = ahead.routing(step, parts, PREPARE)
        if step >= 2:
            used = torch.cat([torch.stack([cast(Tensor, c[layer]) for layer in (1, 2)]) for c in chosen], dim=1)
            assert torch.equal(used, was[step].long())
            assert [c[1].shape[0] for c in chosen if isinstance(c[1], Tensor)] == [64, 32]
        train_step(model, optimizer, parts, plan, WEIGHTS, routing=chosen)
    assert sorted(ahead.state()) == ["6", "7"]
    ahead.routing(6, batches(6)[0], PREPARE)  # the schedule ends at 8: nothing more is chosen
    assert sorted(ahead.state()) == ["7"]


def test_old_routers_choose_by_current_features() -> None:
    model, optimizer = fresh(CONFIG)
    stale, past = StaleRouters(model, 2), []
    stale.begin(0, PREPARE)
    for step in range(4):
        gate = cast(Block, model.layers[2]).ffn.gate
        past.append((gate.weight.detach().clone(), gate.get_buffer("bias").clone()))
        parts, plan = batches(step)
        chosen = stale.routing(step, parts, PREPARE)
        weight, bias = chosen[0][2]
        assert torch.equal(weight, past[max(0, step - 2)][0])
        assert torch.equal(bias, past[max(0, step - 2)][1])
        train_step(model, optimizer, parts, plan, WEIGHTS, routing=chosen)
    assert past[3][1].any()


@pytest.mark.parametrize("kind", [RouteAhead, StaleRouters])
def test_state_goes_on_exactly(kind: type[RouteAhead] | type[StaleRouters]) -> None:
    model, optimizer = fresh(CONFIG)
    routing, twin = kind(model, 3), kind(model, 3)
    routing.begin(0, PREPARE)
    for step in range(2):
        train_step(model, optimizer, *batches(step), WEIGHTS, routing=routing.routing(step, batches(step)[0], PREPARE))
    twin.restore({name: value.clone() for name, value in routing.state().items()})
    for step in range(2, 5):
        for one, other in zip(
            routing.routing(step, batches(step)[0], PREPARE), twin.routing(step, batches(step)[0], PREPARE), strict=True
        ):
            for layer in (1, 2):
                for a, b in zip(one[layer], other[layer], strict=True):
                    assert torch.equal(a, b)


def test_the_router_learns_under_experts_that_others_chose() -> None:
    model, _ = fresh(CONFIG)
    parts, plan = batches(0)
    given = {1: torch.randint(0, 4, (64, 2)), 2: torch.randint(0, 4, (64, 2))}
    with torch.no_grad():  # experts whose outputs are zero would teach the router nothing
        for block in cast(list[Block], model.layers):
            block.ffn.experts.w2.normal_()
            block.ffn.shared_experts.w2.weight.normal_()
    out = model(parts[0].tokens.flatten(), view_of(parts[0], plan, routing=given))
    assert all(torch.equal(cast(Tensor, out.reports[i].load.experts), given[i]) for i in (1, 2))
    out.streams.square().sum().backward()
    assert all(cast(Block, model.layers[i]).ffn.gate.weight.grad.abs().sum() > 0 for i in (1, 2))


def test_replay_is_for_reading_too_and_its_shape_is_checked() -> None:
    model, _ = run(None, steps=1)
    tokens = random_batch(1).tokens.flatten()
    with torch.no_grad():
        own = model(tokens, View.packed([0, 32], controls=Controls(load=True)))
        given = {i: own.reports[i].load.experts for i in (0, 1, 2)}
        again = model(tokens, View.packed([0, 32], controls=Controls(routing=given)))
        assert torch.allclose(own.streams, again.streams, atol=1e-5)
        other = {1: (given[1] + 1) % 4}
        changed = model(tokens, View.packed([0, 32], controls=Controls(routing=other)))
        assert not torch.allclose(own.streams, changed.streams, atol=1e-3)
        with pytest.raises(UsageError, match=r"routing is \[31, 2\]; this step needs \[32, 2\]"):
            model(tokens, View.packed([0, 32], controls=Controls(routing={1: given[1][:31]})))
