"""Lines of recall by length: the newest cell counts, controls do not, published curves stand behind ours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from octavo.bench.recall import PUBLISHED, recall_lines
from octavo.bench.record import BenchError

ROOT = Path(__file__).resolve().parents[2]


def cell(kind: str, length: int, right: int, *, control: str = "none") -> dict[str, Any]:
    return {"kind": kind, "length": length, "control": control,
            "recall": {"right": right, "asked": 8, "share": right / 8}}  # fmt: skip


def put(folder: Path, name: str, *cells: dict[str, Any], **about: Any) -> None:
    record = {"format": 1, "about": {"model": "octavo-s", "date": "2026-01-01"} | about, "cells": list(cells)}
    (folder / f"{name}.json").write_text(json.dumps(record), "utf-8")


def test_the_newest_cell_counts_and_controls_do_not(tmp_path: Path) -> None:
    put(tmp_path, "octavo-s-recall-a", cell("fact", 8192, 4), cell("fact", 1_040_000, 2))
    put(
        tmp_path,
        "octavo-s-recall-b",
        cell("fact", 8192, 6),
        cell("fact", 8192, 0, control="HCA off"),
        date="2026-01-02",
    )
    put(tmp_path, "octavo-s-recall-c", cell("fact", 8192, 1), date="2026-01-03", index_topk=64)
    put(tmp_path, "octavo-s-recall-d", cell("fact", 8192, 1), date="2026-01-03", model="octavo-s before")
    put(tmp_path, "octavo-s-first-recall-e", cell("fact", 16384, 1), date="2026-01-03")
    ours, *published = recall_lines(tmp_path)
    assert (ours.label, ours.bound) == ("octavo-s: planted fact", False)
    assert [(point.tokens, point.value) for point in ours.points] == [(8192, 0.75), (2**20, 0.25)]
    assert [line.bound for line in published] == [True] * len(PUBLISHED)


def test_without_a_record_of_ours_nothing_is_drawn(tmp_path: Path) -> None:
    put(tmp_path, "octavo-s-recall-a", cell("ordering", 8192, 4))
    assert recall_lines(tmp_path) == ()


def test_a_malformed_record_is_named(tmp_path: Path) -> None:
    put(tmp_path, "octavo-s-recall-a", {"kind": "fact"})
    with pytest.raises(BenchError, match=r"octavo-s-recall-a.json: no record of recall: KeyError\('control'\)"):
        recall_lines(tmp_path)


def test_published_curves_have_sources_and_shares() -> None:
    assert all(one.source for one in PUBLISHED)
    assert all(0 < score < 1 for one in PUBLISHED for score in one.scores.values())
    assert all(tokens & (tokens - 1) == 0 for one in PUBLISHED for tokens in one.scores)


def test_the_records_of_the_repository_are_drawn() -> None:
    lines = recall_lines(ROOT / "docs" / "results")
    facts = next(line for line in lines if line.label == "octavo-s: planted fact")
    assert {2**13, 2**15, 2**17, 2**19, 2**20} <= {point.tokens for point in facts.points}
