"""What shipping loses: the table of two records, what cannot be compared, and two exports of one shipped model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import export_loss
from octavo.engine.locate import locate
from octavo.model.checkpoint import WritePlan
from octavo.train.export import export


def record(bits: float, right: list[int], fingerprint: str) -> dict[str, Any]:
    return {
        "fingerprint": fingerprint, "on": "cpu", "window": 2048, "characters": 900, "filler": "plays",
        "texts": [{"text": "a.txt", "bytes": 900, "bits_per_byte": bits}],
        "cells": [{"kind": "fact", "length": 8192, "right": right}],
    }  # fmt: skip


def test_losses_are_counted_in_bits_and_points() -> None:
    language, recall = export_loss.differences(
        record(1.30, [1, 1, 0, 1], "a"), record(1.32, [1, 0, 1, 0], "b")
    )  # fmt: skip
    assert language["loss"] == pytest.approx(0.02)
    assert not language["met"]
    assert (recall["bf16"], recall["shipped"], recall["loss"]) == (75, 50, 25)
    assert (recall["asked"], recall["lost"], recall["won"], recall["met"]) == (4, 2, 1, False)
    drawn = export_loss.table([language, recall]).splitlines()
    assert drawn[2] == "| bits per byte, a.txt | 1.3000 | 1.3200 | +0.0200 | 0.01 | no |  |  |  |"
    assert drawn[3] == "| fact, 8,192 tokens | 75.0 | 50.0 | +25.0 | 1 | no | 4 | 2 | 1 |"


def test_a_gain_meets_the_goal() -> None:
    rows = export_loss.differences(record(1.30, [0, 1], "a"), record(1.29, [1, 1], "b"))
    assert [row["met"] for row in rows] == [True, True]
    assert rows[1]["loss"] == -50


def test_of_an_interrupted_one_the_cells_of_both_count(capsys: pytest.CaptureFixture[str]) -> None:
    whole = record(1.3, [1], "a")
    assert len(export_loss.differences(whole, whole | {"cells": []})) == 1
    assert capsys.readouterr().err == "only the first 0 cells were measured of both\n"


@pytest.mark.parametrize("change", [{"texts": []}, {"cells": [{"kind": "fact", "length": 1, "right": [1]}]}])
def test_what_only_one_measured_is_refused(change: dict[str, Any]) -> None:
    whole = record(1.3, [1], "a")
    with pytest.raises(SystemExit, match="measured different things"):
        export_loss.differences(whole, whole | change)


@pytest.mark.parametrize("change", [{"on": "cuda"}, {"window": 1024}, {"characters": 1}, {"filler": "other"}])
def test_records_made_otherwise_are_refused(change: dict[str, Any]) -> None:
    [field] = change
    with pytest.raises(SystemExit, match=f"^{field} is .* in the other$"):
        export_loss.differences(record(1.3, [1], "a"), record(1.3, [1], "b") | change)


def test_two_exports_of_one_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = locate("octavo-xs")
    export(weights, tmp_path / "bf16", WritePlan(dense=False, experts_fp4=False))
    export(weights, tmp_path / "fp4", WritePlan(dense=True, experts_fp4=True))  # its experts ship in FP8
    text = tmp_path / "text.txt"
    text.write_text("The miller kept a lamp in the tower and went up at night to look for ships.\n" * 8, "utf-8")
    paths = [tmp_path / "one.json", tmp_path / "two.json"]
    for folder, path in zip((tmp_path / "bf16", tmp_path / "fp4"), paths, strict=True):
        export_loss.main([
            "measure", str(folder), "--texts", str(text), "--kinds", "fact", "--lengths", "1K", "--count", "4",
            "--window", "64", "--out", str(path),
        ])  # fmt: skip
    out = tmp_path / "loss.json"
    capsys.readouterr()
    export_loss.main(["compare", *map(str, paths), "--out", str(out)])
    rows = json.loads(out.read_text("utf-8"))["rows"]
    assert [row["what"] for row in rows] == ["bits per byte, text.txt", "fact, 1,024 tokens"]
    assert 0 < abs(rows[0]["loss"]) < 0.2
    assert rows[1]["asked"] == 4
    assert "| fact, 1,024 tokens |" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="are of the same weights"):
        export_loss.main(["compare", str(paths[0]), str(paths[0]), "--out", str(out)])
