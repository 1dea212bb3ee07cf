"""The spike rule by hand: limits of loss and norm, values that are not finite, stages, state."""

from __future__ import annotations

import json
import math

import pytest

from octavo.config.errors import ConfigError
from octavo.train.spikes import SpikeRule, Watch

RULE = SpikeRule(window=8, least=4)


def watched(*losses: float, rule: SpikeRule = RULE, norm: float = 1.0) -> Watch:
    watch = Watch(rule)
    for loss in losses:
        assert watch.judge("a", loss, norm) is None
    return watch


def test_loss_limit_is_the_median_and_six_deviations() -> None:
    losses = (2.0, 2.1, 1.9, 2.2, 1.8)  # median 2, distances 0, .1, .1, .2, .2: median .1
    limit = 2.0 + 6 * 1.4826 * 0.1
    assert watched(*losses).judge("a", limit - 1e-6, 1.0) is None
    assert watched(*losses).judge("a", limit + 1e-6, 1.0) == f"loss {limit:.4f} is above {limit:.4f}"


def test_the_floor_holds_where_losses_hardly_differ() -> None:
    assert watched(2.0, 2.0, 2.0, 2.0).judge("a", 2.149, 1.0) is None
    assert watched(2.0, 2.0, 2.0, 2.0).judge("a", 2.151, 1.0) is not None


def test_gradient_norm_has_its_own_limit() -> None:
    assert watched(2.0, 2.0, 2.0, 2.0, norm=0.5).judge("a", 2.0, 4.99) is None
    assert watched(2.0, 2.0, 2.0, 2.0, norm=0.5).judge("a", 2.0, 5.01) == "gradient norm 5.01 is above 10 x 0.5"


def test_only_the_window_counts() -> None:
    watch = watched(*[9.0] * 8, *[2.0] * 8)
    assert watch.judge("a", 2.2, 1.0) is not None


def test_few_values_judge_nothing_but_what_is_not_finite() -> None:
    assert watched(2.0, 2.0, 2.0).judge("a", 90.0, 900.0) is None
    assert Watch(RULE).judge("a", math.nan, 1.0) == "loss is nan"
    assert Watch(RULE).judge("a", 1.0, math.inf) == "gradient norm is inf"


def test_values_that_are_not_finite_are_not_remembered() -> None:
    watch = watched(2.0, 2.0, 2.0, 2.0)
    watch.judge("a", math.nan, 1.0)
    assert watch.judge("a", 2.1, 1.0) is None
    assert watch.state()["losses"] == [2.0] * 4 + [2.1]


def test_another_stage_starts_anew() -> None:
    watch = watched(2.0, 2.0, 2.0, 2.0)
    assert watch.judge("b", 5.0, 1.0) is None


def test_state_goes_through_json() -> None:
    watch, twin = watched(2.0, 2.0, 2.0, 2.0), Watch(RULE)
    twin.restore(json.loads(json.dumps(watch.state())))
    assert twin.judge("a", 2.2, 1.0) == watch.judge("a", 2.2, 1.0) is not None
    assert twin.state() == watch.state()


def test_rule_needs_a_window_of_the_least_values() -> None:
    with pytest.raises(ConfigError, match="least is 5; it must be from 1 to window 4"):
        SpikeRule(window=4, least=5)
