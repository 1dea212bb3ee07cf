"""The run: rewards rise where there is something to learn, a killed run goes on with the same numbers, other ends."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from octavo.config.errors import TrainingError
from octavo.train.optim import OptimConfig
from octavo.train.reinforce.loop import Options, Result, reinforce
from octavo.train.reinforce.objective import Objective
from octavo.train.reinforce.prompts import Asked, Prompt
from octavo.train.reinforce.reward import Scored
from octavo.train.reinforce.rollout import Drawing
from octavo.train.reinforce.settings import Settings
from tests.support.training import fresh, small_config

SETTINGS = Settings(
    name="toy", asked=Asked(recall=1.0), steps=10, prompts=4, group=8, drawing=Drawing(max_tokens=2), rows=32,
    optim=OptimConfig(matrix_lr=0.005, embedding_lr=0.05, scalar_lr=0.01, table_lr=0.01, decay=0.0), warmup=1, dev=8,
    patience=4, least=0.05,
)  # fmt: skip


WANTED = 23


class Killed(Exception):
    """The run ended from outside."""


class ToyPrompts:
    """Three random tokens and a mark that asks; the answer wanted is any of the highest ids."""

    def step(self, step: int, count: int) -> list[Prompt]:
        return self._made(step, count)

    def dev(self, count: int) -> list[Prompt]:
        return self._made(10**6, count)

    def _made(self, step: int, count: int) -> list[Prompt]:
        draw = np.random.default_rng((7, step))
        ids = [(*map(int, draw.integers(4, 32, 3)), 3) for _ in range(count)]
        return [Prompt(kind="recall", id=f"{step}/{i}", ids=one, expected="high") for i, one in enumerate(ids)]


class ToyJudge:
    """Right where the first token is one of the last nine; may end the run at a given answer."""

    def __init__(self, kill_at: int | None = None) -> None:
        self._left = kill_at

    def score(self, prompt: Prompt, answer: str) -> Scored:
        if self._left is not None:
            self._left -= 1
            if self._left < 0:
                raise Killed
        right = bool(answer) and int(answer.split()[0]) >= WANTED
        return Scored(float(right), "right" if right else "wrong")


def decode(ids: Sequence[int]) -> str:
    return " ".join(map(str, ids))


def go(
    out: Path, settings: Settings = SETTINGS, *, kill_at: int | None = None, seed: int = 0, **options: Any
) -> Result:
    model, _ = fresh(small_config(), seed=seed)
    return reinforce(settings, model, ToyPrompts(), ToyJudge(kill_at), decode, Options(out=out, **options))


def lines(out: Path) -> list[dict[str, Any]]:
    read = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if "seconds" not in name} for line in read]


def test_rewards_rise_and_the_weights_are_kept(tmp_path: Path) -> None:
    settings = replace(SETTINGS, dev=24)
    result = go(tmp_path, settings)
    rewards = [line["reward"] for line in lines(tmp_path)]
    assert len(rewards) == result.steps == 10
    assert np.mean(rewards[:2]) < 0.6
    assert np.mean(rewards[-3:]) > 0.9
    assert result.finished
    assert result.verdict is not None
    assert result.verdict.keep
    gate = json.loads((tmp_path / "gate.json").read_text())
    assert gate["keep"] is True
    assert gate["kinds"]["recall"]["after"] > gate["kinds"]["recall"]["before"]
    first = lines(tmp_path)[0]
    assert first["answers"] == 32
    assert sum(first["outcomes"].values()) == 32
    assert first["most_ratio"] == pytest.approx(1.0)
    assert first["most_engine_gap"] < 1e-4


@pytest.mark.parametrize("settings", [SETTINGS, replace(SETTINGS, updates=2)], ids=["one update", "two updates"])
def test_a_killed_run_goes_on_with_the_same_numbers(tmp_path: Path, settings: Settings) -> None:
    settings = replace(settings, steps=4, prompts=2, group=4, dev=4, least=0.0)
    go(tmp_path / "whole", settings, save_every=2)
    with pytest.raises(Killed):  # in the fourth step, after the look and the checkpoint of the second
        go(tmp_path / "cut", settings, kill_at=4 + 3 * 8 + 5, save_every=2)
    assert len(lines(tmp_path / "cut")) == 3
    go(tmp_path / "cut", settings, save_every=2, seed=5)  # other weights: all come from the checkpoint
    assert lines(tmp_path / "cut") == lines(tmp_path / "whole")
    gates = [json.loads((tmp_path / name / "gate.json").read_text()) for name in ("whole", "cut")]
    assert gates[0] == gates[1]


def test_time_that_is_over_saves_and_the_same_call_goes_on(tmp_path: Path) -> None:
    settings = replace(SETTINGS, steps=2)
    first = go(tmp_path / "a", settings, max_seconds=0.0)
    assert (first.steps, first.finished, first.verdict) == (1, False, None)
    assert not (tmp_path / "a" / "gate.json").exists()
    second = go(tmp_path / "a", settings)
    assert (second.steps, second.finished) == (2, True)
    go(tmp_path / "b", settings)
    assert lines(tmp_path / "a") == lines(tmp_path / "b")


def test_prompts_that_nobody_solves_end_the_run(tmp_path: Path) -> None:
    class Hard(ToyJudge):
        def score(self, prompt: Prompt, answer: str) -> Scored:
            return Scored(0.0, "wrong")

    model, _ = fresh(small_config())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(TrainingError, match=r"0 of 16 prompts had a right answer in 8; at least 5% are needed"):
        reinforce(SETTINGS, model, ToyPrompts(), Hard(), decode, Options(out=tmp_path))
    assert [line["updates"] for line in lines(tmp_path)] == [0] * 4
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_the_divergence_needs_its_reference(tmp_path: Path) -> None:
    model, _ = fresh(small_config())
    settings = replace(SETTINGS, steps=1, objective=Objective(kl=0.1))
    with pytest.raises(TrainingError, match=r"kl is 0\.1: the weights that it is measured from are missing"):
        reinforce(settings, model, ToyPrompts(), ToyJudge(), decode, Options(out=tmp_path))
    other, _ = fresh(small_config(), seed=4)
    reinforce(settings, model, ToyPrompts(), ToyJudge(), decode, Options(out=tmp_path), reference=other)
    assert lines(tmp_path)[0]["divergence"] >= 0.0
