"""The controller: snapshots, going back, routing that switches on and off, its end, options, state."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from octavo.config.errors import CheckpointError, ConfigError, TrainingError
from octavo.train.routing import Prepare
from octavo.train.spikes import SpikeRule
from octavo.train.stabilise import Answer, Spike, Stabilise, Stabiliser
from tests.support.training import fresh, plan_of, random_batch

BATCH = [random_batch(1)]
PREPARE = Prepare(lambda step: (BATCH, plan_of()), 1000)


def config(**fields: Any) -> Stabilise:
    given: dict[str, Any] = {"rule": SpikeRule(window=8, least=4), "every": 5, "keep": 3, "before": 4, "lag": 1}
    return Stabilise(**(given | {"hold": 6, "look_every": None} | fields))


def made(answer: Answer, **fields: Any) -> Stabiliser:
    return Stabiliser(*fresh(), config(answer=answer, **fields))


def quiet(stabiliser: Stabiliser, first: int, stop: int) -> None:
    """Steps without a spike."""
    for step in range(first, stop):
        stabiliser.before(step, BATCH, PREPARE)
        assert stabiliser.after(step, "a", 2.0, 1.0) is None


def spike(stabiliser: Stabiliser, step: int) -> Spike:
    stabiliser.before(step, BATCH, PREPARE)
    found = stabiliser.after(step, "a", 9.0, 1.0)
    assert found is not None
    assert found.why == "loss 9.0000 is above 2.1500"
    return found


def test_without_an_answer_spikes_are_counted_and_nothing_is_kept() -> None:
    stabiliser = made(Answer.NONE)
    quiet(stabiliser, 0, 12)
    assert spike(stabiliser, 12) == Spike(step=12, why="loss 9.0000 is above 2.1500", back_to=None)
    assert (stabiliser.spikes, stabiliser.rollbacks, stabiliser.steps) == (1, 0, [])


@pytest.mark.parametrize(("at", "back_to"), [(12, 5), (13, 5), (14, 10), (19, 15)])
def test_a_spike_goes_back_to_the_youngest_snapshot_that_is_old_enough(at: int, back_to: int) -> None:
    stabiliser = made(Answer.ROLLBACK)
    quiet(stabiliser, 0, at)
    assert spike(stabiliser, at).back_to == back_to
    assert stabiliser.before(back_to, BATCH, PREPARE) is None
    assert stabiliser.after(back_to, "a", 2.0, 1.0) is None


def test_going_back_takes_weights_and_watch_along() -> None:
    model, optimizer = fresh()
    stabiliser = Stabiliser(model, optimizer, config(answer=Answer.ROLLBACK))
    quiet(stabiliser, 0, 12)
    before = model.embed.weight.detach().clone()
    with torch.no_grad():
        model.embed.weight.add_(1.0)
    spike(stabiliser, 12)
    assert torch.equal(model.embed.weight, before)
    assert stabiliser.state()[1]["watch"]["losses"] == [2.0] * 5


def test_the_other_routing_is_on_from_there_and_ends() -> None:
    stabiliser = made(Answer.AHEAD)
    assert stabiliser.before(0, BATCH, PREPARE) is None
    quiet(stabiliser, 0, 12)
    assert spike(stabiliser, 12).back_to == 5
    on = []
    for step in range(5, 13):
        routing = stabiliser.before(step, BATCH, PREPARE)
        stabiliser.after(step, "a", 2.0, 1.0)
        on.append((routing is not None, stabiliser.routed(step)))
    assert on == [(True, True)] * 6 + [(False, False)] * 2


def test_always_routes_from_the_first_step_on() -> None:
    stabiliser = made(Answer.STALE, always=True)
    assert all(stabiliser.before(step, BATCH, PREPARE) is not None for step in range(9))


def test_one_rollback_too_many_ends_the_run_or_is_let_be() -> None:
    for go_on in (False, True):
        stabiliser = made(Answer.ROLLBACK, rollbacks=2, go_on=go_on)
        quiet(stabiliser, 0, 12)
        for _ in range(2):
            assert spike(stabiliser, 12).back_to == 5
            quiet(stabiliser, 5, 12)
        if go_on:
            assert spike(stabiliser, 12).back_to is None
            assert (stabiliser.spikes, stabiliser.rollbacks) == (3, 2)
        else:
            with pytest.raises(TrainingError, match=r"step 12: loss 9.* after 2 rollbacks"):
                spike(stabiliser, 12)


def test_without_an_old_snapshot_the_run_goes_on() -> None:
    stabiliser = made(Answer.ROLLBACK, before=20)
    quiet(stabiliser, 0, 12)
    stabiliser.before(12, BATCH, PREPARE)
    found = stabiliser.after(12, "a", float("nan"), 1.0)
    assert found == Spike(step=12, why="loss is nan; no snapshot is 20 steps older", back_to=None)
    assert stabiliser.rollbacks == 0


@pytest.mark.parametrize("answer", [Answer.ROLLBACK, Answer.AHEAD, Answer.STALE])
def test_state_goes_on_exactly(answer: Answer) -> None:
    stabiliser, twin = made(answer), made(answer)
    quiet(stabiliser, 0, 12)
    spike(stabiliser, 12)
    quiet(stabiliser, 5, 9)
    tensors, values = stabiliser.state()
    values = json.loads(json.dumps(values))
    twin.check(values)
    twin.restore(tensors, values)
    assert (twin.steps, twin.spikes, twin.rollbacks) == ([0, 5], 1, 1)
    for one in (stabiliser, twin):
        quiet(one, 9, 12)
        assert spike(one, 12).back_to == 5
    again = twin.state()
    assert stabiliser.state()[1] == again[1]
    assert stabiliser.state()[0].keys() == again[0].keys()


def test_a_checkpoint_of_other_options_is_refused() -> None:
    values = made(Answer.AHEAD).state()[1]
    with pytest.raises(CheckpointError, match="stabilise: lag is 1, the recipe has 2"):
        made(Answer.AHEAD, lag=2).check(values)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"lag": -1}, "lag is -1; it must be at least 0"),
        ({"keep": 0}, "keep is 0; it must be at least 1"),
        ({"look_every": 16}, "look_every is 16; it must be above lag 16"),
        ({"always": True}, "always needs another routing, answer is none"),
    ],
)
def test_options_have_limits(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Stabilise(**fields)
