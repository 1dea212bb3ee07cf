"""The ablation on a few steps of a small model: units, faults, what goes on after the time, measures by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from octavo.train import recipes
from octavo.train.recipes import Recipe
from octavo.train.schedule import Schedule, Stage
from octavo.train.stabilise import Answer
from runs import stabilisers
from runs.stabilisers import ARMS, Unit, against_twin, main, parsed, recipe_of, recovery, units_of
from tests.support.small_text import SmallText, small_text
from tests.support.training import small_config, small_recipe


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> SmallText:
    return small_text(tmp_path_factory.mktemp("text"), paragraphs=200)


@pytest.fixture
def chosen(text: SmallText, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    """A recipe whose model has the small tokenizer's ids, a hash-routed layer and two learned ones."""
    config = small_config(
        vocab_size=text.tokenizer.vocab_size, compress_ratios=(0, 4, 0), num_hidden_layers=3, num_hash_layers=1
    )
    made = small_recipe(model=config, schedule=Schedule(stages=(Stage(name="a", steps=1, row_lengths=(256,)),)))
    monkeypatch.setitem(recipes.RECIPES, "small", lambda: made)
    return made


def line(text: SmallText, out: Path, *more: str) -> list[str]:
    files = ["--pack", str(text.pack_folder), "--tokenizer", str(text.tokenizer_file.parent), "--out", str(out)]
    sizes = {"steps": 24, "at": 20, "rows": 256, "tokens": 256, "picks": 8, "warmup": 4, "window": 8, "seeds": 1}
    flags = [word for name, value in sizes.items() for word in (f"--{name}", str(value))]
    return [*files, "--recipe", "small", *flags, "--look-tokens", "64", *more]


def units(out: Path) -> dict[str, dict[str, Any]]:
    lines = [json.loads(text) for text in (out / "units.jsonl").read_text().splitlines()]
    return {f"{one['fault']}-{one['arm']}": one for one in lines}


def test_a_run_cut_short_goes_on_and_ends_in_a_summary(
    chosen: Recipe, text: SmallText, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ("--faults", "rate", "--arms", "none")
    main(line(text, tmp_path, *more, "--minutes", "0.0001"))
    assert "out of time in 0-nothing-none" in capsys.readouterr().out
    main(line(text, tmp_path, *more))
    found = units(tmp_path)
    assert list(found) == ["nothing-none", "rate-none"]
    assert found["nothing-none"]["spikes"] == 0
    assert found["rate-none"]["rollbacks"] == 0
    rows = json.loads((tmp_path / "summary.json").read_text())
    assert [(row["fault"], row["arm"], row["seeds"]) for row in rows] == [("nothing", "none", 1), ("rate", "none", 1)]
    assert rows[1]["final_gap"] != 0.0
    assert rows[1]["gate_clamped"] is not None
    assert not any(tmp_path.glob("*/checkpoint"))
    table = capsys.readouterr().out
    assert "excess_area" in table
    before = (tmp_path / "units.jsonl").read_text()
    main(line(text, tmp_path, *more))  # nothing is left to do
    assert (tmp_path / "units.jsonl").read_text() == before


def test_units_come_after_their_twins(text: SmallText, tmp_path: Path) -> None:
    found = units_of(parsed(line(text, tmp_path, "--seeds", "2")))
    assert len(found) == len(set(found)) == 2 * (3 * 6 + 2)
    assert all(found.index(unit.twin) <= found.index(unit) for unit in found)
    assert Unit(1, "token", "clamp+ahead").twin == Unit(1, "nothing", "clamp")


def test_arms_are_what_they_are_called(chosen: Recipe, text: SmallText, tmp_path: Path) -> None:
    options = parsed(line(text, tmp_path))
    made = {arm: recipe_of(Unit(0, "expert", arm), options) for arm in ARMS}
    limits = {arm: one.model.swiglu_limit for arm, one in made.items()}
    assert {arm for arm, limit in limits.items() if limit is not None} == {"clamp", "clamp+ahead"}
    answers = {arm: one.stabilise.answer for arm, one in made.items()}
    assert answers["ahead"] is answers["clamp+ahead"] is Answer.AHEAD
    assert (answers["stale"], answers["rollback"], answers["none"]) == (Answer.STALE, Answer.ROLLBACK, Answer.NONE)
    rates = [recipe_of(Unit(0, "rate", "none"), options).schedule.plan(step).rate for step in (19, 20, 23)]
    assert rates == [1.0, 8.0, 8.0]
    tokens = stabilisers.feed_of(made["none"], Unit(0, "token", "none"), options)(19)
    assert [len(set(next(tokens)["tokens"].flatten().tolist())) == 1 for _ in range(4)] == [False, True, True, False]


def test_recovery_by_hand() -> None:
    flat = [2.0] * 20
    assert recovery([*flat, *[2.0] * 10], 20) == 0
    assert recovery([*flat, *[4.0] * 10], 20) is None
    steps = recovery([*flat, 4.0, *[2.0] * 40], 20)
    assert steps == 22  # 0.2 x 0.9^22 is the first below 0.02
    assert recovery([*flat, float("nan"), *[2.0] * 10], 20) is None


def test_excess_is_summed_from_the_fault_on(tmp_path: Path) -> None:
    own, twin = Unit(0, "rate", "none"), Unit(0, "nothing", "none")
    for unit, losses in ((own, [5.0, 2.0, 4.0, 1.0]), (twin, [2.0, 2.0, 1.5, 1.5])):
        (tmp_path / unit.name).mkdir()
        lines = [json.dumps({"step": i, "loss": loss}) for i, loss in enumerate(losses)]
        again = [json.dumps({"event": "spike", "step": 2}), json.dumps({"step": 3, "loss": losses[3]})]
        (tmp_path / unit.name / "log.jsonl").write_text("\n".join([*lines, *again]) + "\n")
    assert against_twin(tmp_path, own, 2) == {"excess_area": 2.5, "final_gap": pytest.approx((3 + 0 + 2.5 - 0.5) / 4)}


def test_a_fault_outside_the_run_is_refused(
    text: SmallText, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parsed(line(text, tmp_path, "--at", "24"))
    assert "--at is 24; it must be from 1 to below --steps 24" in capsys.readouterr().err
