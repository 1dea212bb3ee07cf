"""`octavo eval facts` on a tiny random model: the page, the JSON, the written report, bad input."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from octavo.cli import main
from octavo.config.engram import EngramConfig
from tests.support.tiny import tiny_config, write_tiny_model


def test_json_and_report_with_every_control(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    engram = EngramConfig(layers=(1,), rows_per_head=101, head_dim=8, heads_per_order=2)
    folder = write_tiny_model(tmp_path / "tiny", tiny_config(max_position_embeddings=4096, engram=engram), 1)
    out = tmp_path / "report"
    line = ["eval", "facts", "--model", str(folder), "--count", "1", "--kinds", "never", "--controls", "--json"]
    assert main([*line, "--out", str(out)]) == 0
    printed, err = capsys.readouterr()
    found = json.loads(printed)
    assert err == ""
    assert [(row["control"], row["book"], row["wording"]) for row in found["shares"]] == [
        (control, book, wording)
        for control in ("none", "Engram off", "rows permuted")
        for book in ("closed", "open")
        for wording in ("held_out", "seen")
    ]
    assert (found["about"]["engram"], found["about"]["questions"]) == (True, "towns of octavo-s")
    assert json.loads((out / "facts.json").read_text("utf-8")) == found


def test_a_twin_without_memory_has_no_controls(story: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "facts", "--count", "1", "--controls"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("| chance | as it is: exact (95 %) | as it is: choice (95 %) |")
    assert len(lines) == 2 + 2 * 2 * 6  # books, wordings, five numbers of exposures and never


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (["--text", "nowhere.jsonl"], "questions 'nowhere.jsonl' is no file"),
        (["--kinds", "gossip"], "unknown kind 'gossip' of facts"),
        (["--count", "0"], "count is 0"),
    ],
)
def test_bad_input_is_one_line(
    story: Path, line: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    assert main(["eval", "facts", *line]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"octavo: error: {message}")
    assert err.count("\n") == 1
