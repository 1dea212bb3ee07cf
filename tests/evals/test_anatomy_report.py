"""The page and the JSON of an anatomy: repairs, sorts and layers are counted right."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from octavo.evals.anatomy import REPAIRS, Anatomy, AnatomyCell, LayerRow, Tried
from octavo.evals.anatomy_report import cell_json, to_json, to_markdown, write

WINDOW = LayerRow(layer=0, ratio=0, entries=0, picked=None, rank=None, evidence=0.0, strongest=0.0, others=0.0,
                  window=0.9, sink=0.1, entropy=0.0)  # fmt: skip


def csa(picked: float, rank: int, evidence: float) -> LayerRow:
    return LayerRow(layer=1, ratio=4, entries=500, picked=picked, rank=rank, evidence=evidence, strongest=2 * evidence,
                    others=0.3, window=0.5 - evidence, sink=0.2, entropy=3.0)  # fmt: skip


def question(
    right: dict[str, bool], *, sort: str | None = None, repaired_by: str | None = None, **row: float
) -> Anatomy:
    tried = {
        name: Tried(given="", right=right.get(name, right["none"]), part=0.0, logprob=-1.0 + 0.5 * (name != "none"))
        for name in REPAIRS
    }
    layer = csa(row.get("picked", 1.0), int(row.get("rank", 1)), row.get("evidence", 0.4))
    return Anatomy(
        prompt="?", expected="x", depth=0.5, marks=(), statements=1, departs=None, reached=(1.0, 0.8),
        layers=(WINDOW, layer), tried=tried, sort=sort, repaired_by=repaired_by,
    )  # fmt: skip


CELL = AnatomyCell(
    kind="two_hop", text="books/plays.txt", length=8192, tokens=8190, seed=1, read_seconds=1.0, ask_seconds=2.0,
    questions=(
        question({"none": True}),
        question({"none": True, "HCA off": False}, evidence=0.2),
        question({"none": False, "evidence alone": True}, sort="drowned", repaired_by="evidence alone", rank=300,
                 evidence=0.1),
        question({"none": False}, sort="not picked", repaired_by="nothing", picked=0.0, rank=900, evidence=0.0),
    ),
)  # fmt: skip


def test_repairs_and_what_they_break() -> None:
    found = cell_json(CELL)["repairs"]
    assert (found["none"]["right"]["right"], found["none"]["right"]["asked"]) == (2, 4)
    assert found["evidence alone"]["right"]["right"] == 3
    assert (found["evidence alone"]["repaired"]["right"], found["evidence alone"]["repaired"]["asked"]) == (1, 2)
    assert (found["HCA off"]["broken"]["right"], found["HCA off"]["repaired"]["right"]) == (1, 0)
    assert found["HCA off"]["logprob_gain_of_misses"] == pytest.approx(0.5)
    assert found["none"]["logprob_gain_of_misses"] == 0.0


def test_misses_and_layers_apart() -> None:
    found = cell_json(CELL)
    assert found["misses"]["by_attention"] == {"not picked": 1, "drowned": 1, "read wrong": 0}
    assert found["misses"]["by_repair"] == {"not picked": 0, "drowned": 1, "read wrong": 1}
    assert found["misses"]["repaired_by"]["evidence alone"] == found["misses"]["repaired_by"]["nothing"] == 1
    right, wrong = found["layers"]["right"][1], found["layers"]["wrong"][1]
    assert (right["kind"], right["picked"], right["rank"]) == ("CSA", 1.0, 1.0)
    assert right["evidence"] == pytest.approx(0.3)
    assert (wrong["picked"], wrong["rank"], wrong["evidence"]) == (0.5, 600, pytest.approx(0.05))
    assert "picked" not in found["layers"]["right"][0]
    json.loads(to_json([CELL], about={"model": "m"}))


def test_the_page_has_both_tables_and_is_written(tmp_path: Path) -> None:
    page = to_markdown([CELL])
    assert "## two_hop, 8,190 tokens, plays.txt" in page
    assert "| evidence alone | 3 of 4 (0.30-0.95) | 1 of 2 (0.09-0.91) | 0 of 2 (0.00-0.66) | +0.50 |" in page
    assert "| 1 CSA | wrong | 0.50 | 600 | 0.050 | 0.100 | 0.300 | 0.450 | 0.200 | 3.0 |" in page
    assert "by attention: not picked 1, drowned 1, read wrong 0" in page
    write([CELL], tmp_path)
    assert (tmp_path / "anatomy.md").read_text("utf-8") == page


def test_a_cell_without_misses() -> None:
    cell = AnatomyCell(kind="fact", text="", length=1, tokens=1, seed=1, read_seconds=0, ask_seconds=0,
                       questions=CELL.questions[:1])  # fmt: skip
    assert "| evidence picked | 1 of 1 (0.21-1.00) | - | 0 of 1 (0.00-0.79) | - |" in to_markdown([cell])


def test_a_sample_of_misses_says_so() -> None:
    found = cell_json(replace(CELL, sifted=(50, 64)))
    assert (found["sifted"]["right"], found["sifted"]["asked"]) == (50, 64)
    assert "sifted" not in cell_json(CELL)
    page = to_markdown([replace(CELL, sifted=(50, 64))])
    assert "As it is: 50 of 64 (0.67-0.86). Taken apart: 4, misses first." in page
    assert "Taken apart" not in to_markdown([CELL])
