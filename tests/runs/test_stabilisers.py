"""The ablation on a few steps of a small model: units, faults, branches, what goes on after the time, failures,
measures by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from octavo.train import recipes
from octavo.train.recipes import Recipe
from octavo.train.schedule import Schedule, Stage
from octavo.train.stabilise import Answer
from runs.stabilisers import work
from runs.stabilisers.__main__ import about, main, parsed
from runs.stabilisers.measures import against_twin, recovery
from runs.stabilisers.units import ARMS, Unit, branch_step, feed_of, recipe_of, units_of
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
    main(line(text, tmp_path, *more, "--minutes", "0.00001"))
    assert "out of time; the same command goes on" in capsys.readouterr().out
    assert main(line(text, tmp_path, *more)) == 0
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
    assert len(found) == len(set(found)) == 2 * (3 * 6 + 4)
    assert all(found.index(unit.twin) <= found.index(unit) for unit in found)
    assert [unit.seed for unit in found] == sorted(unit.seed for unit in found)
    assert Unit(1, "token", "clamp+ahead").twin == Unit(1, "nothing", "clamp")
    assert Unit(1, "nothing", "always").twin == Unit(1, "nothing", "none")


def test_arms_are_what_they_are_called(chosen: Recipe, text: SmallText, tmp_path: Path) -> None:
    options = parsed(line(text, tmp_path))
    given = {"vocabulary": chosen.model.vocab_size}
    made = {arm: recipe_of(Unit(0, "expert", arm), options, **given) for arm in ARMS}
    limits = {arm: one.model.swiglu_limit for arm, one in made.items()}
    assert {arm for arm, limit in limits.items() if limit is not None} == {"clamp", "clamp+ahead"}
    answers = {arm: one.stabilise.answer for arm, one in made.items()}
    assert answers["ahead"] is answers["clamp+ahead"] is Answer.AHEAD
    assert (answers["stale"], answers["rollback"], answers["none"]) == (Answer.STALE, Answer.ROLLBACK, Answer.NONE)
    assert not any(one.stabilise.always for one in made.values())
    control = recipe_of(Unit(0, "nothing", "always"), options, **given)
    assert (control.stabilise.answer, control.stabilise.always) == (Answer.AHEAD, True)
    assert recipe_of(Unit(0, "rate", "none"), options, vocabulary=77).model.vocab_size == 77
    rates = [recipe_of(Unit(0, "rate", "none"), options, **given).schedule.plan(at).rate for at in (19, 20, 23)]
    assert rates == [1.0, 8.0, 8.0]
    tokens = feed_of(made["none"], Unit(0, "token", "none"), options)(19)
    assert [len(set(next(tokens)["tokens"].flatten().tolist())) == 1 for _ in range(4)] == [False, True, True, False]


def log_lines(out: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(text) for text in (out / name / "log.jsonl").read_text().splitlines()]


def test_runs_part_at_the_branch_and_not_before(chosen: Recipe, text: SmallText, tmp_path: Path) -> None:
    more = ("--steps", "43", "--at", "40", "--arms", "none", "ahead", "--faults", "expert", "--grown", "40")
    assert branch_step(parsed(line(text, tmp_path, *more))) == 25
    assert main(line(text, tmp_path, *more, "--deviations", "0", "--floor", "0.001", "--window", "4")) == 0
    found = units(tmp_path)
    assert set(found) == {"nothing-none", "expert-none", "expert-ahead", "nothing-again", "nothing-always"}
    names = "nothing-none", "expert-none", "nothing-always", "nothing-again"
    twin, hit, control, again = (log_lines(tmp_path, f"0-{name}") for name in names)
    assert [one for one in hit if one["step"] < 25] == [one for one in twin if one["step"] < 25]
    losses = [{one["step"]: one["loss"] for one in log if "event" not in one} for log in (twin, hit, again)]
    assert losses[2] == losses[0]
    assert all(losses[0][step] == losses[1][step] for step in range(40))  # on one device, bit for bit
    assert losses[0][40] != losses[1][40]
    assert {one["step"]: one["other_routing"] for one in control if "event" not in one}[25]
    assert found["expert-ahead"]["rollbacks"] == 1
    assert found["expert-ahead"]["steps_again"] > 0
    probe = found["expert-none"]["probe"]
    assert list(probe) == ["0", "1", "2"]
    assert probe["0"]["gate_size_most"] > 5 * found["nothing-none"]["probe"]["0"]["gate_size_most"]
    assert found["nothing-none"]["probe"]["0"]["churn"] == 0.0
    assert probe["0"]["loss_clamped"] != probe["0"]["loss"]
    assert not (tmp_path / "0-expert-none" / "checkpoint").exists()


def test_a_unit_that_raises_is_left_out_and_tried_again_when_told(
    chosen: Recipe, text: SmallText, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = ("--faults", "rate", "--arms", "none", "--steps", "6", "--at", "3", "--warmup", "1")
    real = work.run

    def run(unit: Unit, *rest: Any) -> bool:
        if unit.fault == "rate":
            raise OSError("no such batch")
        return real(unit, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(work, "run", run)
        assert main(line(text, tmp_path, *more)) == 1
    assert "no such batch" in (tmp_path / "0-rate-none" / "failed.txt").read_text()
    assert list(units(tmp_path)) == ["nothing-none"]
    assert main(line(text, tmp_path, *more)) == 0
    assert list(units(tmp_path)) == ["nothing-none"]
    assert main(line(text, tmp_path, *more, "--again")) == 0
    assert list(units(tmp_path)) == ["nothing-none", "rate-none"]


def test_processes_share_the_units(text: SmallText, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = ["--recipe", "tiny", "--faults", "rate", "--arms", "none", "--steps", "3", "--at", "2"]
    more += ["--warmup", "1", "--processes", "2", "--minutes", "6"]
    assert main(line(text, tmp_path, *more)) == 0, capsys.readouterr().err
    assert sorted(units(tmp_path)) == ["nothing-none", "rate-none"]
    outputs = [path.read_text() for path in sorted((tmp_path / "processes").iterdir())]
    assert sum(one.count('"fault"') for one in outputs) == 2
    before = (tmp_path / "units.jsonl").read_text()
    assert main(line(text, tmp_path, *more, "--summary")) == 0
    assert (tmp_path / "units.jsonl").read_text() == before
    assert "loss_old_experts" in capsys.readouterr().out


def test_a_process_that_fails_is_reported(
    text: SmallText, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = tmp_path / "no-tokenizer"
    more = ["--recipe", "tiny", "--steps", "3", "--at", "2", "--warmup", "1", "--processes", "2", "--arms", "none"]
    args = line(text, tmp_path / "out", *more, "--tokenizer", str(wrong))
    assert main(args) == 1
    told = capsys.readouterr().err
    assert "00.txt: ended with exit code 1" in told or "01.txt: ended with exit code 1" in told


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
    assert against_twin(tmp_path, own, 2) == {
        "excess_area": 2.5, "final_gap": pytest.approx((3 + 0 + 2.5 - 0.5) / 4), "worst_gap": 2.5, "steps_to_twin": 0,
    }  # fmt: skip


def test_a_record_says_which_device_the_runs_had(text: SmallText, tmp_path: Path) -> None:
    usual = about(parsed(line(text, tmp_path)))
    assert "gpus" not in usual
    assert usual["options"]["device"] == "cpu"
    on_gpus = about(parsed(line(text, tmp_path, "--device", "cuda", "--gpus", "2", "--processes", "3")))
    assert (on_gpus["device"], on_gpus["gpus"], on_gpus["processes"]) == ("cuda", 2, 3)
    assert on_gpus["cpu"] == usual["device"]
    assert not {"pack", "out", "gpus"} & set(on_gpus["options"])


def test_a_fault_outside_the_run_is_refused(
    text: SmallText, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parsed(line(text, tmp_path, "--at", "24"))
    assert "--at is 24; it must be from 1 to below --steps 24" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (("--processes", "0"), "--processes is 0; it must be at least 1"),
        (("--steps", "60", "--at", "40", "--warmup", "26"), "--warmup is 26; it must be over by step 25"),
    ],
)
def test_options_that_cannot_be_are_refused(
    more: tuple[str, ...], told: str, text: SmallText, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parsed(line(text, tmp_path, *more))
    assert told in capsys.readouterr().err
