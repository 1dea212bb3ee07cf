"""Recipes: known names, rows that fill a step, cut-down model of the trial run."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from octavo.config.errors import UsageError
from octavo.config.model import ModelConfig
from octavo.config.presets import s, xs, xs_engram, xs_plain
from octavo.data.shares import LESSON_SHARES, Mix
from octavo.model.checkpoint import WritePlan
from octavo.train.loop import RunOptions
from octavo.train.recipes import RECIPES, recipe
from octavo.train.run import run
from octavo.train.schedule import Schedule
from tests.support.lesson_pack import lesson_pack
from tests.support.training import small_config, small_recipe


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


def test_first_weights_keep_their_mix() -> None:
    names = [name for name in RECIPES if "-xs" in name and name not in ("octavo-xs-engram", "octavo-xs-plain")]
    stages = [stage for name in names for stage in recipe(name).schedule.stages]
    assert {stage.mix for stage in stages} == {Mix()}


def test_s_can_be_cut_anywhere_and_comes_to_rest_with_its_predictor() -> None:
    ends = ("", "-further", "-anneal", "-fuller", "-settled", "-predictor")
    every = first, further, anneal, fuller, settled, last = [recipe(f"octavo-s{end}") for end in ends]
    assert first.model == further.model == anneal.model == fuller.model == settled.model
    assert (last.model, last.only, last.weights.mtp) == (s(), ("mtp.",), 1.0)
    assert first.model.num_nextn_predict_layers == 0
    assert first.model.layer_ratios == s().layer_ratios
    stable = first.schedule.stages[-1]
    assert stable.rate == stable.final_rate == further.schedule.plan(further.schedule.steps - 1).rate == 1.0
    assert stable.steps > 0.8 * first.schedule.steps
    assert fuller.schedule.plan(fuller.schedule.steps - 1).rate == 0.9
    for resting in (anneal, settled):
        assert resting.schedule.plan(resting.schedule.steps - 1).rate < 0.02
    assert len({one.seed for one in every}) == len({one.schedule.seed for one in every}) == 6
    for one in every:
        assert all(one.tokens_per_step % (4 * length) == 0 for st in one.schedule.stages for length in st.row_lengths)
        assert all(st.mix.plain > 0 and st.mix.code > 0 and len(st.mix.linked) == 7 for st in one.schedule.stages)


def test_lessons_are_learned_beside_recall_and_text() -> None:
    settled, taught = recipe("octavo-s-settled"), recipe("octavo-s-taught")
    stage = taught.schedule.stages[0]
    assert (taught.model, taught.rounded) == (settled.model, settled.rounded)
    assert taught.seed not in {recipe(name).seed for name in RECIPES if name != taught.name}
    assert 0.25 <= stage.mix.lessons <= 0.3
    assert 0.15 <= stage.mix.plain * (1 - stage.mix.lessons) <= 0.2
    assert set(stage.mix.linked) == set(settled.schedule.stages[0].mix.linked)
    assert stage.mix.two_hop_steps > 2 * settled.schedule.stages[0].mix.two_hop_steps
    assert max(stage.topk) == taught.model.index_topk
    assert stage.row_lengths == settled.schedule.stages[0].row_lengths
    assert max(taught.schedule.plan(step).rate for step in range(taught.schedule.steps)) <= 0.5
    assert taught.schedule.plan(taught.schedule.steps - 1).rate < 0.01
    assert 350e6 < taught.schedule.steps * taught.tokens_per_step < 380e6


def test_speakers_and_programs_get_more_of_the_last_leg() -> None:
    taught, versed = (recipe(f"octavo-s-{name}") for name in ("taught", "versed"))
    before, mix = (one.schedule.stages[0].mix for one in (taught, versed))
    assert (versed.model, versed.rounded, versed.optim) == (taught.model, taught.rounded, taught.optim)
    assert versed.seed not in {recipe(name).seed for name in RECIPES if name != versed.name}
    asked = [one.play_rows * one.shares(is_play=True)["speaker"] for one in (before, mix)]
    assert asked[1] > 2.5 * asked[0]
    assert sorted(mix.lesson_kinds) == sorted([*LESSON_SHARES, "program"])
    assert versed.schedule.plan(versed.schedule.steps - 1).rate < 0.01


def test_weights_are_rounded_as_the_shipped_ones_are() -> None:
    shipped = ModelConfig.from_json(Path(__file__).parents[2] / "weights" / "octavo-s")
    assert recipe("octavo-s-settled").rounded == WritePlan.of(shipped)
    assert recipe("octavo-s-fuller").rounded is None


def test_twins_differ_in_their_model_alone() -> None:
    engram, plain = recipe("octavo-xs-engram"), recipe("octavo-xs-plain")
    assert (engram.model, plain.model) == (xs_engram(), xs_plain())
    assert replace(engram, name=plain.name, model=plain.model) == plain
    assert engram.schedule.plan(engram.schedule.steps - 1).rate < 0.05
    assert engram.rounded is None
    for stage in engram.schedule.stages:
        assert stage.mix.sources == ("facts",)
        assert set(stage.mix.lesson_kinds) == {"closed_book", "open_book"}
        assert stage.mix.lessons + stage.mix.plain * (1 - stage.mix.lessons) < 0.9  # planted questions are left


def test_twins_are_shown_each_fact_about_seventeen_times() -> None:
    """The pack's documents of facts have 2,313,062 tokens in 18,744 documents, each between two marks."""
    chosen = recipe("octavo-xs-engram")
    facts = sum(
        stage.steps * chosen.tokens_per_step * (1 - stage.mix.lessons) * stage.mix.plain * stage.mix.documents
        for stage in chosen.schedule.stages
    )
    assert facts / (2_313_062 + 2 * 18_744) == pytest.approx(17.4, abs=0.2)


def test_trial_run_is_small() -> None:
    chosen = recipe("tiny")
    assert chosen.schedule.steps <= 20
    assert chosen.tokens_per_step <= 2048
    assert chosen.model.layer_ratios == xs().layer_ratios


def test_unknown_name() -> None:
    ends = ("", "-engram", "-fuller", "-last", "-longer", "-mixed", "-plain", "-predictor", "-settled", "-wider")
    s_ends = ("", "-anneal", "-fuller", "-further", "-predictor", "-settled", "-taught", "-versed")
    known = ", ".join([*(f"octavo-s{end}" for end in s_ends), *(f"octavo-xs{end}" for end in ends)])
    with pytest.raises(UsageError, match=f"recipe 'huge' is not known; there are {known}, tiny"):
        recipe("huge")


def test_rows_of_lessons_train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mix of `octavo-s-taught` on a small pack and model: finite steps whose answers are counted as lessons."""
    text = lesson_pack(tmp_path / "text")
    stage = replace(
        recipe("octavo-s-taught").schedule.stages[0], steps=3, row_lengths=(512,), shares=(1.0,), topk=(8,),
        warmup=1, mix=Mix(lessons=0.5),
    )  # fmt: skip
    config = small_config(vocab_size=text.tokenizer.vocab_size)
    made = small_recipe(model=config, schedule=Schedule(stages=(stage,)), tokens_per_step=2048, recompute_from=1024)
    monkeypatch.setitem(RECIPES, "small", lambda: made)
    seen: list[dict] = []
    options = RunOptions(out=tmp_path / "run", log_every=1)
    tokenizer = text.tokenizer_file.parent
    result = run("small", pack=text.pack_folder, tokenizer=tokenizer, options=options, show=seen.append)
    assert (result.steps, result.finished) == (3, True)
    steps = [line for line in seen if "loss" in line]
    assert len(steps) == 3
    assert all(math.isfinite(line["loss"]) and line["skipped"] == 0 for line in steps)
    assert any("lesson" in line for line in steps)
    assert any("program" in line for line in steps)
