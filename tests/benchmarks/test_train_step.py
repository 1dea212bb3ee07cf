"""The benchmark of a training step, on the tiny recipe."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import train_step
from octavo.config.counts import count
from octavo.config.presets import s
from octavo.kernels.dispatch import TRITON
from octavo.train.recipes import recipe

CPU = torch.device("cpu")


def test_shares_and_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "step.json"
    line = ["--recipe", "tiny", "--rows", "128", "256", "--tokens", "512", "--steps", "2", "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", ["train_step", *line, "--out", str(out)])
    train_step.main()
    record = json.loads(out.read_text(encoding="utf-8"))
    assert [run["row_length"] for run in record["runs"]] == [128, 256]
    for run in record["runs"]:
        (own,) = run["variants"].values()
        assert len(own["all_seconds"]) == 2
        assert own["tokens_per_second"] == pytest.approx(512 / own["seconds"])
        least = 6 * run["active_parameters"] * 512 / run["product_operations_per_second"]
        assert own["share_of_bound"] == pytest.approx(least / own["seconds"])
        assert 0 < own["share_of_bound"] < 1
        assert own["gradient_distance"] == 0
    assert capsys.readouterr().out.count("of the bound") == 2


def test_variants_take_turns_and_one_that_fails_is_recorded(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    turns: list[frozenset[str]] = []
    take = train_step.Step.take

    def recorded(step: train_step.Step, operations: frozenset[str]) -> float:
        if operations == {"rope"}:
            raise RuntimeError("out of registers\nand more")
        turns.append(operations)
        return take(step, operations)

    monkeypatch.setattr(train_step.Step, "take", recorded)
    before, after, rope = frozenset[str](), TRITON, frozenset({"rope"})
    variants = {"compiled": before, "triton": after, "rope alone": rope}
    run = train_step.measure(recipe("tiny"), 128, 256, 3, CPU, variants)
    assert turns == [before] * 3 + [after] * 3 + [before, after, after, before, before, after]
    assert run["variants"]["rope alone"] == {"operations": ["rope"], "error": "RuntimeError: out of registers"}
    assert len(run["variants"]["triton"]["all_seconds"]) == 3
    train_step.print_run(run)
    shown = capsys.readouterr().out
    assert shown.count("of the bound") == 2
    assert "failed with rope in Triton: RuntimeError: out of registers" in shown


def test_what_is_compared() -> None:
    assert list(train_step.variants_of(CPU, ["all"])) == ["compiled"]
    cuda = torch.device("cuda")
    assert train_step.variants_of(cuda, ["rope"]) == {
        "compiled": frozenset(), "triton": TRITON, "rope alone": frozenset({"rope"}),
    }  # fmt: skip
    assert len(train_step.variants_of(cuda, ["all"])) == 2 + len(TRITON)


def test_a_gradient_is_taken_without_moving_anything() -> None:
    step = train_step.Step(recipe("tiny"), 128, 256, CPU)
    step.take(frozenset())
    before = {name: value.clone() for name, value in step.model.state_dict().items()}
    (loss, made), (again, same) = step.gradient(frozenset()), step.gradient(TRITON)
    assert all(torch.equal(value, before[name]) for name, value in step.model.state_dict().items())
    assert loss == again
    assert train_step.distance(same, made) == 0
    halved = {name: g / 2 for name, g in made.items()}
    assert train_step.distance(halved, made) == pytest.approx(0.5)


def test_a_preset_takes_the_place_of_the_recipes_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []

    def measure(chosen: train_step.Recipe, rows: int, *_: object) -> dict[str, object]:
        seen.append((chosen.name, count(chosen.model).active, rows))
        return {"variants": {"compiled": {"error": "not measured"}}}

    monkeypatch.setattr(train_step, "measure", measure)
    line = ["--preset", "xs", "s", "--rows", "4096", "16384", "--device", "cpu", "--out", str(tmp_path / "o.json")]
    monkeypatch.setattr(sys, "argv", ["train_step", *line])
    train_step.main()
    assert [rows for *_, rows in seen] == [4096, 16384] * 2
    assert {name for name, *_ in seen} == {"octavo-xs with xs", "octavo-xs with s"}
    assert seen[2][1] == count(s()).active
