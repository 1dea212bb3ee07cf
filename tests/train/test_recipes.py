"""Recipes: known names, rows that fill a step, cut-down model of the trial run."""

from __future__ import annotations

import pytest

from octavo.config.errors import UsageError
from octavo.config.presets import xs
from octavo.train.recipes import RECIPES, recipe


@pytest.mark.parametrize("name", RECIPES)
def test_every_row_length_divides_the_step(name: str) -> None:
    chosen = recipe(name)
    assert chosen.name == name
    for stage in chosen.schedule.stages:
        assert len(stage.shares) == len(stage.row_lengths)
        assert all(chosen.tokens_per_step % length == 0 for length in stage.row_lengths)
        assert all(0 < k < chosen.model.max_position_embeddings // 4 for k in stage.topk)
        assert stage.warmup < stage.steps


def test_shipped_recipe_trains_the_shipped_model_and_ends_low() -> None:
    chosen = recipe("octavo-xs")
    assert chosen.model == xs()
    assert chosen.schedule.stages[0].topk == ()
    assert all(stage.topk for stage in chosen.schedule.stages[1:])
    assert chosen.schedule.plan(chosen.schedule.steps - 1).rate < 0.1


def test_trial_run_is_small() -> None:
    chosen = recipe("tiny")
    assert chosen.schedule.steps <= 20
    assert chosen.tokens_per_step <= 2048
    assert chosen.model.layer_ratios == xs().layer_ratios


def test_unknown_name() -> None:
    ends = ("", "-fuller", "-last", "-longer", "-mixed", "-predictor", "-settled", "-wider")
    known = ", ".join(f"octavo-xs{end}" for end in ends)
    with pytest.raises(UsageError, match=f"recipe 'huge' is not known; there are {known}, tiny"):
        recipe("huge")
