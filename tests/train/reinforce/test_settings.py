"""Settings: known names, numbers in range, prompts that train no kept family."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from octavo.config.errors import ConfigError, UsageError
from octavo.train.reinforce.prompts import DEV_SEEDS, FIRST_SEED
from octavo.train.reinforce.rollout import Drawing
from octavo.train.reinforce.settings import SETTINGS, settings


@pytest.mark.parametrize("name", SETTINGS)
def test_names_and_sizes(name: str) -> None:
    chosen = settings(name)
    assert chosen.name == name
    assert chosen.asked.row_answer <= chosen.drawing.max_tokens
    assert FIRST_SEED + chosen.steps * chosen.prompts < DEV_SEEDS
    assert not chosen.partial
    assert chosen.objective.kl == 0.0
    assert chosen.rate(0) == pytest.approx(1 / chosen.warmup)
    assert chosen.rate(chosen.steps) == 1.0


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"group": 1}, "group is 1; answers are compared"),
        ({"steps": 0}, "steps is 0; it must be at least 1"),
        ({"drawing": Drawing(max_tokens=4, temperature=0.0)}, "temperature is 0.0; answers that are all alike"),
    ],
)
def test_numbers_out_of_range(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(settings("trial"), **wrong)


def test_unknown_name() -> None:
    known = "octavo-s-brief, octavo-s-reinforced, trial"
    with pytest.raises(UsageError, match=f"settings 'huge' are not known; there are {known}"):
        settings("huge")
