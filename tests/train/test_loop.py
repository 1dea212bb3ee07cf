"""The loop: exact resume, checkpoints in time, log lines once each, ends, micro-batches, recompute, vocabulary map."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from octavo.model.checkpoint import WritePlan, load_weights, save_checkpoint
from octavo.model.transformer import Transformer
from octavo.train import loop
from octavo.train.loop import RunOptions, RunResult, train
from octavo.train.recipes import Recipe
from octavo.train.schedule import Schedule, Stage
from tests.support.training import ROW, feed_of, small_config, small_recipe


class Killed(Exception):
    """The run ended from outside."""


class Clock:
    """A clock that batches move, ten seconds each, and a look at it by a millisecond."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        self.now += 1e-3
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(loop, "time", made)
    return made


@pytest.fixture(autouse=True)
def _log_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "_LOG_EVERY", 4)


def go(
    recipe: Recipe, out: Path, *, clock: Clock | None = None, kill_before: int | None = None, **options: Any
) -> RunResult:
    """Run `recipe` into `out`; `kill_before` ends the process before that step."""

    def feed(start: int) -> Iterator[dict[str, np.ndarray]]:
        for step, batch in enumerate(feed_of(recipe, start), start):
            if step == kill_before:
                raise Killed
            if clock is not None:
                clock.now += 10
            yield batch

    return train(recipe, feed, RunOptions(out=out, **options))


def saved_step(out: Path) -> int:
    return json.loads((out / "checkpoint" / "checkpoint.json").read_text())["step"]


def lines(out: Path) -> list[dict[str, Any]]:
    """Log lines without the speed, the one value that two equal runs need not share."""
    found = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "tokens_per_s"} for line in found]


def same_weights(a: RunResult, b: RunResult) -> bool:
    one, other = a.model.state_dict(), b.model.state_dict()
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_twenty_steps_equal_eight_and_twelve_bit_for_bit(tmp_path: Path, clock: Clock) -> None:
    recipe = small_recipe()
    whole = go(recipe, tmp_path / "whole")
    with pytest.raises(Killed):  # steps 8 and 9 were done and are lost
        go(recipe, tmp_path / "parts", clock=clock, kill_before=10, save_seconds=75)
    assert saved_step(tmp_path / "parts") == 8
    parts = go(recipe, tmp_path / "parts")
    assert (whole.steps, whole.finished, parts.steps, parts.finished) == (20, True, 20, True)
    assert same_weights(whole, parts)
    assert [line["step"] for line in lines(tmp_path / "parts")] == [3, 7, 11, 15, 19]
    assert lines(tmp_path / "parts") == lines(tmp_path / "whole")
    assert parts.last["loss"] == whole.last["loss"]


def test_a_resumed_run_drops_log_lines_of_steps_it_repeats(tmp_path: Path, clock: Clock) -> None:
    recipe = small_recipe(dense=12, sparse=4)
    with pytest.raises(Killed):
        go(recipe, tmp_path, clock=clock, kill_before=11, save_seconds=55)
    assert (saved_step(tmp_path), [line["step"] for line in lines(tmp_path)]) == (6, [3, 7])
    go(recipe, tmp_path)
    assert [line["step"] for line in lines(tmp_path)] == [3, 7, 11, 15]


def test_time_limit_saves_and_says_that_more_is_to_come(tmp_path: Path, clock: Clock) -> None:
    recipe = small_recipe()
    result = go(recipe, tmp_path, clock=clock, max_seconds=45)
    assert (result.steps, result.finished, saved_step(tmp_path)) == (5, False, 5)
    again = go(recipe, tmp_path, clock=clock, max_seconds=25)
    assert (again.steps, again.finished, saved_step(tmp_path)) == (8, False, 8)


def test_a_finished_run_has_nothing_left_to_do(tmp_path: Path) -> None:
    recipe = small_recipe(dense=4, sparse=0)
    first = go(recipe, tmp_path)
    again = go(recipe, tmp_path, kill_before=4)
    assert (again.steps, again.finished) == (4, True)
    assert same_weights(first, again)
    assert [line["step"] for line in lines(tmp_path)] == [3]


def test_without_resume_the_run_starts_anew(tmp_path: Path) -> None:
    recipe = small_recipe(dense=4, sparse=0)
    first = go(recipe, tmp_path)
    (tmp_path / "checkpoint" / "checkpoint.json").write_text("damaged, and not looked at")
    second = go(recipe, tmp_path, resume=False)
    assert same_weights(first, second)
    assert [line["step"] for line in lines(tmp_path)] == [3]


def test_a_checkpoint_beside_an_unfinished_rename_is_found(tmp_path: Path, clock: Clock) -> None:
    recipe = small_recipe(dense=4, sparse=0)
    go(recipe, tmp_path, clock=clock, max_seconds=15)
    (tmp_path / "checkpoint").rename(tmp_path / "checkpoint.old")
    assert go(recipe, tmp_path, kill_before=4).steps == 4
    assert saved_step(tmp_path) == 4


def test_micro_batches_take_all_rows(tmp_path: Path) -> None:
    recipe = small_recipe(dense=4, sparse=0)
    whole, parts = go(recipe, tmp_path / "a"), go(recipe, tmp_path / "b", micro_batches=3)
    for one, other in zip(lines(tmp_path / "a"), lines(tmp_path / "b"), strict=True):
        assert one["loss"] == pytest.approx(other["loss"], abs=2e-3)
    assert (whole.steps, parts.steps) == (4, 4)
    assert go(recipe, tmp_path / "c", micro_batches=9).steps == 4  # more parts than rows


def test_long_rows_are_recomputed_and_the_layers_restored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lengths: list[int] = []
    recompute = loop.recompute_layers
    recipe = small_recipe(dense=2, sparse=6)

    def spy(model: Transformer) -> None:
        lengths.append(1)
        recompute(model)

    monkeypatch.setattr(loop, "recompute_layers", spy)
    result = go(recipe, tmp_path / "a")
    long = [step for step in range(8) if recipe.schedule.plan(step).row_length == 64]
    assert 0 < len(lengths) == len(long) < 8
    assert all(getattr(layer.forward, "__self__", None) is layer for layer in result.model.layers)
    kept = go(replace(recipe, recompute_from=10_000), tmp_path / "b")
    assert same_weights(result, kept)


def test_vocabulary_map_is_installed_saved_and_kept(tmp_path: Path) -> None:
    recipe = small_recipe(dense=2, sparse=0)
    small = (np.arange(32) % 7).astype(np.int32)
    result = train(recipe, partial(feed_of, recipe), RunOptions(out=tmp_path), engram_map=small)
    assert result.model.get_buffer("engram_map").tolist() == small.tolist()
    again = train(recipe, partial(feed_of, recipe), RunOptions(out=tmp_path))
    assert again.model.get_buffer("engram_map").tolist() == small.tolist()


def test_a_run_starts_from_given_weights(tmp_path: Path) -> None:
    recipe = small_recipe(dense=4, sparse=0)
    first = go(recipe, tmp_path / "first")
    save_checkpoint(first.model, first.model.config, tmp_path / "weights", WritePlan.lossless())
    still = Stage(name="still", steps=1, row_lengths=(ROW,), rate=0.0, final_rate=0.0)
    after = go(replace(recipe, schedule=Schedule(stages=(still,))), tmp_path / "after", start=tmp_path / "weights")
    given = dict(first.model.named_parameters())
    assert all(torch.equal(value, given[name]) for name, value in after.model.named_parameters())


def test_a_predictor_trains_behind_weights_that_stay(tmp_path: Path) -> None:
    trunk = go(small_recipe(dense=6, sparse=2), tmp_path / "trunk").model
    save_checkpoint(trunk, trunk.config, tmp_path / "weights", WritePlan.of(trunk.config))
    config = small_config(num_nextn_predict_layers=1)
    recipe = small_recipe(dense=8, sparse=4, model=config, only=("mtp.",))
    held = go(recipe, tmp_path / "held", start=tmp_path / "weights")
    stored = Transformer(trunk.config)
    load_weights(stored, tmp_path / "weights", torch.float32)
    kept = stored.state_dict()
    assert [n for n, value in held.model.state_dict().items() if n in kept and not torch.equal(value, kept[n])] == []
    first, last = lines(tmp_path / "held")[0], lines(tmp_path / "held")[-1]
    assert last["mtp"] < first["mtp"]
    assert 0 <= last["mtp_accuracy"] <= 1
    assert last["index"] == 0.0
    again = go(replace(recipe, schedule=replace(recipe.schedule)), tmp_path / "held", start=tmp_path / "weights")
    assert same_weights(held, again)
    assert "mtp" not in lines(tmp_path / "trunk")[-1]
