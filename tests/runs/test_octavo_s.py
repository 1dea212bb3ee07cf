"""The run of `octavo-s`: commands that the programs understand, steps left out once done, an end where one fails."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from octavo.data.lessons.material import TASKS_FILE
from octavo.train.recipes import RECIPES
from octavo.train.reinforce.settings import SETTINGS
from runs.octavo_s import main

STEPS = (
    "corpus", "tokenizer", "pack", "javascript", "octavo-s", "octavo-s-settled", "octavo-s-taught",
    "octavo.train.reinforce", "octavo.train.export",
)  # fmt: skip


def line(folder: Path, *more: str) -> list[str]:
    given = ["--data", str(folder / "data"), "--held-out", "a.jsonl.xz", "b.jsonl.xz", "--work", str(folder / "work")]
    return [*given, "--out", str(folder / "out"), "--minutes", "20", *more]


def commands(text: str) -> list[list[str]]:
    return [one.split() for one in text.splitlines() if not one.startswith("there: ")]


def test_every_step_in_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(line(tmp_path, "--gpus", "2", "--dry-run"))
    found = commands(capsys.readouterr().out)
    assert [next(name for name in STEPS if name in words) for words in found] == list(STEPS)
    assert found[0][found[0].index("--held-out") + 1 :] == ["a.jsonl.xz", "b.jsonl.xz"]
    assert "--minutes" in found[4]
    assert all("--minutes" not in words for words in found[5:])
    assert all("--nproc-per-node=2" in words for words in found[4:7])
    assert {words[words.index("train") + 1] for words in found[4:7]} <= set(RECIPES)
    assert found[7][found[7].index("octavo.train.reinforce") + 1] in SETTINGS


def test_every_step_goes_on_from_what_the_one_before_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(line(tmp_path, "--dry-run"))
    found = commands(capsys.readouterr().out)
    first, rested, taught, rewarded, export = found[4:]
    assert rested[rested.index("--init-from") + 1] == first[first.index("--weights") + 1]
    assert taught[taught.index("--init-from") + 1] == rested[rested.index("--weights") + 1]
    assert rewarded[rewarded.index("--weights") + 1] == taught[taught.index("--weights") + 1]
    assert export[export.index("octavo.train.export") + 1] == rewarded[rewarded.index("--kept") + 1]
    assert found[3][found[3].index("--out") + 1] == f"{found[2][found[2].index('--out') + 1]}/{TASKS_FILE}"


def test_programs_know_the_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every option that a step is given stands in the help of its program."""
    main(line(tmp_path, "--dry-run"))
    for words in commands(capsys.readouterr().out):
        at = words.index("-m") + 1
        program = words[at : at + 1] if words[at] == "octavo.train.export" else words[at : at + 2]
        told = subprocess.run([sys.executable, "-m", *program, "--help"], capture_output=True, text=True, check=True)
        assert [word for word in words[at + 2 :] if word.startswith("--") and word not in told.stdout] == []


def test_what_is_there_is_left_out_and_a_failure_ends(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for made in ("corpus/manifest.json", "tokenizer/tokenizer.json"):
        (tmp_path / "work" / made).parent.mkdir(parents=True)
        (tmp_path / "work" / made).touch()
    with pytest.raises(SystemExit) as ended:  # there is no corpus to pack
        main(line(tmp_path))
    assert ended.value.code not in (0, None)
    out = capsys.readouterr().out
    assert out.count("there: ") == 2
    assert len(commands(out)) == 1
