"""Snapshots: what is kept, going back bit by bit, and their state in a checkpoint."""

from __future__ import annotations

import torch
from torch import Tensor

from octavo.model.transformer import Transformer
from octavo.train.optim import Optimizer
from octavo.train.snapshots import Snapshots, random_states, set_random_states
from octavo.train.step import LossWeights, train_step
from tests.support.training import fresh, plan_of, random_batch


def step(model: Transformer, optimizer: Optimizer, number: int) -> None:
    train_step(model, optimizer, [random_batch(1, seed=number)], plan_of(), LossWeights(bias_speed=0.1))


def everything(model: Transformer, optimizer: Optimizer) -> dict[str, Tensor]:
    state = {f"{n} {kind}": v.clone() for n, kinds in optimizer.state.items() for kind, v in kinds.items()}
    return state | {name: v.clone() for name, v in model.state_dict().items()}


def test_going_back_restores_all_state_and_the_same_step_follows() -> None:
    model, optimizer = fresh()
    snapshots = Snapshots(model, optimizer, keep=2)
    step(model, optimizer, 0)
    snapshots.take(1, {"stage": "a"})
    before = everything(model, optimizer)
    draw = torch.rand(3)
    step(model, optimizer, 1)
    after = everything(model, optimizer)
    found = snapshots.back_to(5)
    assert found is not None
    assert (found.step, found.watch, optimizer.step_count) == (1, {"stage": "a"}, 1)
    assert torch.equal(torch.rand(3), draw)
    assert all(torch.equal(value, before[name]) for name, value in everything(model, optimizer).items())
    assert any(not torch.equal(after[name], before[name]) for name in before if name.endswith("gate.bias"))
    step(model, optimizer, 1)
    assert all(torch.equal(value, after[name]) for name, value in everything(model, optimizer).items())


def test_the_oldest_go_and_younger_ones_are_forgotten_on_the_way_back() -> None:
    snapshots = Snapshots(*fresh(), keep=3)
    for at in (0, 25, 50, 75):
        snapshots.take(at, {})
    assert snapshots.steps == [25, 50, 75]
    assert snapshots.back_to(20) is None
    assert snapshots.steps == [25, 50, 75]
    found = snapshots.back_to(74)
    assert found is not None
    assert found.step == 50
    assert snapshots.steps == [25, 50]
    only = Snapshots(*fresh(), keep=1)
    only.take(0, {})
    only.take(25, {})
    assert only.steps == [25]


def test_state_goes_into_another_run() -> None:
    model, optimizer = fresh()
    snapshots = Snapshots(model, optimizer, keep=2)
    snapshots.take(0, {"stage": "a"})
    before = everything(model, optimizer)
    step(model, optimizer, 0)
    snapshots.take(25, {"stage": "b"})
    twin, twin_optimizer = fresh(seed=5)
    other = Snapshots(twin, twin_optimizer, keep=2)
    other.restore(*snapshots.state())
    assert other.steps == [0, 25]
    found = other.back_to(10)
    assert found is not None
    assert (found.watch, twin_optimizer.step_count) == ({"stage": "a"}, 0)
    assert all(torch.equal(value, before[name]) for name, value in everything(twin, twin_optimizer).items())


def test_random_states_are_put_back() -> None:
    states = random_states()
    draw = torch.rand(4)
    set_random_states({})
    assert not torch.equal(torch.rand(4), draw)
    set_random_states(states)
    assert torch.equal(torch.rand(4), draw)
