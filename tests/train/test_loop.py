"""The loop: exact resume, checkpoints in time, log lines once each, ends, micro-batches, recompute, vocabulary map,
spikes and their answers, steps that are skipped."""

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

from octavo.config.errors import TrainingError, UsageError
from octavo.model.checkpoint import WritePlan, load_weights, save_checkpoint
from octavo.model.transformer import Transformer
from octavo.train import loop
from octavo.train.loop import RunOptions, RunResult, train
from octavo.train.parallel.ranks import Ranks
from octavo.train.recipes import Recipe
from octavo.train.schedule import Schedule, Stage
from octavo.train.spikes import SpikeRule
from octavo.train.stabilise import Answer, Stabilise
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

    given = {name: options.pop(name) for name in ("before_step", "show") if name in options}
    return train(recipe, feed, RunOptions(**({"out": out, "log_every": 4} | options)), **given)


def saved_step(out: Path) -> int:
    return json.loads((out / "checkpoint" / "checkpoint.json").read_text())["step"]


def lines(out: Path) -> list[dict[str, Any]]:
    """Log lines without the speed, which two equal runs need not share."""
    found = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in ("tokens_per_s", "mfu")} for line in found]


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


def test_a_run_may_end_without_a_checkpoint(tmp_path: Path, clock: Clock) -> None:
    recipe = small_recipe(dense=4, sparse=0)
    assert go(recipe, tmp_path / "none", save_last=False).finished
    assert not (tmp_path / "none" / "checkpoint").exists()
    go(recipe, tmp_path / "some", clock=clock, save_last=False, save_seconds=25)
    assert saved_step(tmp_path / "some") == 3


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


class Spoiled:
    """Multiplies a layer's router and experts before one step, whenever the run comes by; counts how often."""

    def __init__(self, step: int, *, by: float, most: int = 99) -> None:
        self.step, self.by, self.most, self.times = step, by, most, 0

    @torch.no_grad()
    def __call__(self, step: int, model: Transformer) -> None:
        if step == self.step and self.times < self.most:
            self.times += 1
            for name, p in model.named_parameters():
                if ".ffn." in name or "head" in name:
                    p.mul_(self.by)


SPIKY = Stabilise(
    rule=SpikeRule(window=8, least=4, floor=0.3), every=3, keep=3, before=2, rollbacks=2, lag=2, hold=5, look_every=4,
    look_tokens=64,
)  # fmt: skip


def events(out: Path) -> list[dict[str, Any]]:
    return [line for line in lines(out) if "event" in line]


def test_a_spike_is_logged_and_without_an_answer_the_run_goes_on(tmp_path: Path) -> None:
    recipe = small_recipe(dense=14, sparse=0, stabilise=SPIKY)
    go(recipe, tmp_path, before_step=Spoiled(10, by=30.0))
    first = events(tmp_path)[0]
    assert (first["event"], first["step"], first["back_to"], first["rollbacks"]) == ("spike", 10, None, 0)
    assert lines(tmp_path)[-1]["spikes"] == len(events(tmp_path)) >= 1


def test_a_passing_fault_is_undone_by_going_back(tmp_path: Path) -> None:
    recipe = small_recipe(dense=14, sparse=0, stabilise=replace(SPIKY, answer=Answer.ROLLBACK))
    plain = go(small_recipe(dense=14, sparse=0), tmp_path / "plain")
    undone = go(recipe, tmp_path / "undone", before_step=Spoiled(10, by=30.0, most=1))
    assert [(e["step"], e["back_to"]) for e in events(tmp_path / "undone")] == [(10, 6)]
    assert same_weights(plain, undone)
    assert undone.last["loss"] == plain.last["loss"]


def test_a_fault_that_stays_ends_the_run_and_leaves_the_checkpoint(tmp_path: Path, clock: Clock) -> None:
    recipe = small_recipe(dense=14, sparse=0, stabilise=replace(SPIKY, answer=Answer.AHEAD))
    fault = Spoiled(10, by=30.0)
    with pytest.raises(TrainingError, match=r"step 10: .* after 2 rollbacks"):
        go(recipe, tmp_path, clock=clock, save_seconds=75, before_step=fault)
    assert fault.times == 3
    assert [e["rollbacks"] for e in events(tmp_path)] == [1, 2]
    assert saved_step(tmp_path) == 10  # of before the fault


@pytest.mark.parametrize("answer", [Answer.AHEAD, Answer.STALE])
def test_resume_is_exact_while_another_routing_is_on(answer: Answer, tmp_path: Path, clock: Clock) -> None:
    """Killed in the middle of the replay: ring, watch, snapshots, looks and log all go on."""
    recipe = small_recipe(dense=10, sparse=2, stabilise=replace(SPIKY, answer=answer, every=4))
    whole = go(recipe, tmp_path / "whole", micro_batches=2, before_step=Spoiled(7, by=30.0, most=1))
    with pytest.raises(Killed):
        go(recipe, tmp_path / "parts", clock=clock, kill_before=10, save_seconds=5, micro_batches=2,
           before_step=Spoiled(7, by=30.0, most=1))  # fmt: skip
    assert saved_step(tmp_path / "parts") == (8 if answer is Answer.AHEAD else 10)  # two batches are read ahead
    parts = go(recipe, tmp_path / "parts", micro_batches=2)
    assert same_weights(whole, parts)
    assert lines(tmp_path / "parts") == lines(tmp_path / "whole")
    assert any(line.get("other_routing") for line in lines(tmp_path / "whole"))
    assert any("churn" in line for line in lines(tmp_path / "whole"))


def test_no_lag_is_no_change(tmp_path: Path) -> None:
    plain = go(small_recipe(dense=3, sparse=2), tmp_path / "plain")
    for answer in (Answer.AHEAD, Answer.STALE):
        stabilise = replace(SPIKY, answer=answer, always=True, lag=0)
        assert same_weights(plain, go(small_recipe(dense=3, sparse=2, stabilise=stabilise), tmp_path / answer))
    late = replace(SPIKY, answer=Answer.AHEAD, always=True)
    assert not same_weights(plain, go(small_recipe(dense=3, sparse=2, stabilise=late), tmp_path / "late"))


def test_a_step_that_is_not_finite_is_skipped_counted_and_explained(tmp_path: Path) -> None:
    def spoil(step: int, model: Transformer) -> None:
        p = model.get_parameter("layers.1.attn.wq_a.weight")
        with torch.no_grad():  # undone after the step, as a fault of a batch is
            p.mul_(3e38 if step == 2 else 1 / 3e38 if step == 3 else 1.0)

    recipe = small_recipe(dense=6, sparse=0, stabilise=SPIKY)
    result = go(recipe, tmp_path, before_step=spoil)
    skipped, spike = events(tmp_path)
    assert (skipped["event"], skipped["step"], skipped["skipped"]) == ("skipped", 2, 1)
    assert skipped["first_nonfinite"].startswith("output of layers.1.attn")
    assert (spike["event"], spike["step"]) == ("spike", 2)
    assert result.last["skipped"] == 1
    assert np.isfinite(result.last["loss"])


def test_what_is_logged_is_shown(tmp_path: Path) -> None:
    shown: list[dict[str, Any]] = []
    go(small_recipe(dense=5, sparse=0), tmp_path, show=shown.append)
    assert [line["step"] for line in shown] == [3, 4]
    assert 0 < shown[0]["mfu"] < 1
    assert len(shown[0]["gate_clamped"]) == 2


def test_answers_to_spikes_are_for_one_rank(tmp_path: Path) -> None:
    recipe = small_recipe(stabilise=replace(SPIKY, answer=Answer.ROLLBACK))
    with pytest.raises(UsageError, match="answer rollback to spikes needs one rank, there are 2"):
        train(recipe, partial(feed_of, recipe), RunOptions(out=tmp_path), ranks=Ranks(count=2))
