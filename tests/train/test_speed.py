"""The rate of products and the least time at it."""

from __future__ import annotations

import pytest
import torch

from octavo.config.counts import count
from octavo.train import speed
from octavo.train.speed import least_seconds, product_rate, seconds
from tests.support.training import small_config


def test_rate_is_measured_once_and_draws_nothing_from_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(speed.SQUARE, "cpu", 64)
    product_rate.cache_clear()
    before = torch.get_rng_state()
    rate = product_rate(torch.device("cpu"))
    assert 1e6 < rate < 1e13
    assert torch.equal(torch.get_rng_state(), before)
    monkeypatch.setattr(speed, "seconds", lambda *_: pytest.fail("measured again"))
    assert product_rate(torch.device("cpu")) == rate
    product_rate.cache_clear()


def test_least_time_is_six_operations_a_token_and_active_parameter() -> None:
    config = small_config()
    assert least_seconds(config, 100, 1e9) == pytest.approx(6 * count(config).active * 100 / 1e9)


def test_seconds_has_one_value_a_repeat() -> None:
    calls: list[int] = []
    taken = seconds(lambda: calls.append(1), torch.device("cpu"), 3)
    assert len(taken) == len(calls) == 3
    assert all(t >= 0 for t in taken)
