"""The page of what models can do: cells by kind and length, models side by side, tables of records."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from octavo.bench.record import BenchError
from octavo.bench.tables import evaluation_page

ROOT = Path(__file__).resolve().parents[2]


def cell(kind: str, length: int, right: int) -> dict[str, Any]:
    recall = {"right": right, "asked": 8, "share": right / 8, "low": 0.1, "high": 0.9}
    return {"kind": kind, "length": length, "control": "none", "recall": recall}


def put(folder: Path, name: str, **content: Any) -> None:
    (folder / f"{name}.json").write_text(json.dumps(content), "utf-8")


def test_a_page_of_all_that_is_there(tmp_path: Path) -> None:
    cells = [cell("fact", 8192, 7), cell("order", 8192, 1), cell("fact", 1_040_000, 6)]
    put(tmp_path, "octavo-s-recall-cpu", format=1, about={"model": "octavo-s"}, cells=cells)
    for model, bits in (("b", 1.25), ("a", 1.0)):
        put(
            tmp_path, f"language_{model}", texts=[{"text": "t", "bytes": 9, "bits_per_byte": {model: bits, "xz -9": 3}}]
        )
    put(tmp_path, "other", page={"title": "Loss", "command": "python -m x", "lines": ["| a |", "|---|"]})
    put(tmp_path, "unrelated", cells=[])
    page = evaluation_page(tmp_path)
    assert page is not None
    assert page.splitlines()[4:] == [
        "## Recall of octavo-s", "", "Right answers of those asked, with 95 % intervals.", "",
        "| kind | 8K | 1,040,000 |", "|---|---|---|",
        "| fact | 7 of 8 (0.10-0.90) | 6 of 8 (0.10-0.90) |", "| order | 1 of 8 (0.10-0.90) |  |",
        "", "## Bits per byte", "", "`python -m benchmarks.language`; the fewer the better.", "",
        "| text | bytes | a | b | xz -9 |", "|---|---|---|---|---|", "| t | 9 | 1.000 | 1.250 | 3.000 |",
        "", "## Loss", "", "`python -m x`; `other.json`.", "", "| a |", "|---|",
    ]  # fmt: skip


def test_without_such_records_there_is_no_page(tmp_path: Path) -> None:
    put(tmp_path, "unrelated", cells=[])
    assert evaluation_page(tmp_path) is None


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [("x", {"page": {"title": "t"}}, "x.json: field page is malformed"),
     ("language_x", {"texts": [{}]}, "language_x.json: no record of language")],
)  # fmt: skip
def test_malformed_records_are_named(tmp_path: Path, name: str, content: dict[str, Any], told: str) -> None:
    put(tmp_path, name, **content)
    with pytest.raises(BenchError, match=told):
        evaluation_page(tmp_path)


def test_the_repository_s_own_page_is_fresh() -> None:
    held = ROOT / "docs" / "figures" / "evaluation.md"
    assert held.read_text("utf-8") == evaluation_page(ROOT / "docs" / "results"), "run: octavo bench report"
