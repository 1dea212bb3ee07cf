"""The run of the twins: commands that the programs understand, what is left out, what is not compared yet."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from octavo.evals.facts import choose, rows
from octavo.train.recipes import recipe
from runs.engram_twins import STOPPED, TWINS, answers, main, newest, rounds, steps_done


def line(folder: Path, *more: str) -> list[str]:
    return ["--pack", str(folder / "pack"), "--tokenizer", str(folder / "words"), "--work", str(folder / "work"), *more]


def commands(text: str) -> list[list[str]]:
    return [one.split() for one in text.splitlines() if not one.startswith("there: ")]


def logged(folder: Path, name: str, steps: int, *, weights: bool = True) -> Path:
    """The log of a training of `steps` steps, an event at its end."""
    log = folder / "work" / name / "log.jsonl"
    log.parent.mkdir(parents=True, exist_ok=True)
    lines = [{"step": step, "loss": 1.0} for step in range(9, steps, 10)]
    lines += [{"step": steps - 1, "loss": 1.0}, {"event": "skipped", "step": 9999}]
    log.write_text("".join(json.dumps(one) + "\n" for one in lines), "utf-8")
    if weights:
        (log.parent / "weights").mkdir(exist_ok=True)
        (log.parent / "weights" / "model.safetensors.index.json").touch()
    return log


def test_every_step_in_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(line(tmp_path, "--minutes", "3", "--dry-run"))
    found = commands(capsys.readouterr().out)
    assert [words[4] for words in found[:2]] == list(TWINS)
    assert all(words[words.index("--minutes") + 1] == "3.0" for words in found[:2])
    for train, ask in zip(found[:2], found[2:4], strict=True):
        assert ask[3:5] == ["eval", "facts"]
        assert ask[ask.index("--model") + 1] == train[train.index("--weights") + 1]
    assert found[4][2:5] == [
        "octavo.evals.facts_compare",
        *(f"{w[w.index('--out') + 1]}/facts.json" for w in found[2:4]),
    ]
    main(line(tmp_path, "--count", "0", "--dry-run"))
    assert len(commands(capsys.readouterr().out)) == 2


def test_programs_know_the_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every option that a step is given stands in the help of its program."""
    main(line(tmp_path, "--minutes", "3", "--dry-run"))
    found = commands(capsys.readouterr().out)
    for words in (found[1], found[3], found[4]):
        at = words.index("-m") + 1
        program = words[at : at + 1 + (words[at] == "octavo")]
        told = subprocess.run([sys.executable, "-m", *program, "--help"], capture_output=True, text=True, check=True)
        assert [word for word in words[at + 2 :] if word.startswith("--") and word not in told.stdout] == []


def test_twins_train_side_by_side_where_there_are_two_gpus(tmp_path: Path) -> None:
    given = {"pack": tmp_path, "tokenizer": tmp_path, "work": tmp_path, "device": "cuda", "workers": 2, "minutes": None}
    both = rounds(argparse.Namespace(**given, gpus=2, count=0, recipes=TWINS))
    assert [[step.gpu for step in steps] for steps in both] == [[0, 1]]
    assert [step.surroundings["CUDA_VISIBLE_DEVICES"] for step in both[0]] == ["0", "1"]
    one = rounds(argparse.Namespace(**given, gpus=1, count=0, recipes=TWINS))
    assert [[step.gpu for step in steps] for steps in one] == [[None], [None]]


def test_a_training_is_done_at_its_last_step_with_its_weights(tmp_path: Path) -> None:
    name, all_steps = TWINS[0], recipe(TWINS[0]).schedule.steps
    assert steps_done(name, tmp_path / "none") == (0, all_steps)
    assert steps_done(name, logged(tmp_path, name, 25)) == (25, all_steps)
    assert steps_done(name, logged(tmp_path, name, all_steps)) == (all_steps, all_steps)
    assert steps_done(name, logged(tmp_path / "b", name, all_steps, weights=False))[0] < all_steps


def test_an_interrupted_result_is_asked_again(tmp_path: Path) -> None:
    result, questions = tmp_path / "facts.json", len(choose(rows(None), 2))
    assert answers(2, result) == (0, 1)
    result.write_text(json.dumps({"about": {"engram": True}, "outcomes": [{}] * 32}), "utf-8")
    assert answers(2, result) == (32, 3 * 2 * questions)
    result.write_text(json.dumps({"about": {"engram": False}, "outcomes": [{}] * 32}), "utf-8")
    assert answers(2, result) == (32, 2 * questions)


def test_what_is_trained_is_left_out_and_a_failure_ends(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    logged(tmp_path, TWINS[0], recipe(TWINS[0]).schedule.steps)
    with pytest.raises(SystemExit) as ended:  # there is no pack to train on
        main(line(tmp_path, "--device", "cpu"))
    assert ended.value.code not in (0, None, STOPPED)
    out = capsys.readouterr().out
    assert out.count("there: ") == 1
    assert len(commands(out)) == 1


def test_a_comparison_older_than_its_results_is_made_anew(tmp_path: Path) -> None:
    results, made = [tmp_path / "one.json", tmp_path / "two.json"], tmp_path / "twins.json"
    for path in results:
        path.touch()
    assert newest(results, made) == (0, 1)
    made.touch()
    os.utime(made, ns=(2_000, 2_000))
    for path in results:
        os.utime(path, ns=(1_000, 1_000))
    assert newest(results, made) == (1, 1)
    os.utime(results[1], ns=(3_000, 3_000))
    assert newest(results, made) == (0, 1)
