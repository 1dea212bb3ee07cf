"""Reports."""

import json
from dataclasses import replace
from pathlib import Path

from octavo.evals.recall import CellResult, Outcome
from octavo.evals.report import to_json, to_markdown, write


def result(right: int, asked: int) -> CellResult:
    outcomes = tuple(
        Outcome(
            prompt="p", expected="e", given="g", right=i < right, source_hit=i % 2 == 0, depth=i / asked, marks=("m",)
        )
        for i in range(asked)
    )
    return CellResult(
        kind="fact", text="/some/where/books.jsonl", length=8192, tokens=8190, seed=10**9, control="none",
        outcomes=outcomes, read_seconds=1.25, ask_seconds=2.5, cache_bytes=1000,
    )  # fmt: skip


def test_json_holds_shares_with_intervals_and_outcomes() -> None:
    document = json.loads(to_json([result(48, 64)], about={"model": "tiny"}))
    (cell,) = document["cells"]
    assert document["about"] == {"model": "tiny"}
    assert cell["text"] == "books.jsonl"
    assert (cell["recall"]["right"], cell["recall"]["asked"], cell["recall"]["share"]) == (48, 64, 0.75)
    assert cell["recall"]["low"] < 0.75 < cell["recall"]["high"]
    assert cell["first_source_covers"]["asked"] == 48
    assert len(cell["outcomes"]) == 64
    assert cell["by_mark"]["m"]["right"] == 48


def test_markdown_is_a_line_a_cell() -> None:
    lines = to_markdown([result(64, 64), result(0, 4)]).splitlines()
    assert len(lines) == 4
    assert "| 1.00 (0.94-1.00) |" in lines[2]
    assert lines[3].count("|") == lines[0].count("|")
    assert "| - |" in lines[3]  # no right answer, so no share of sources


def test_files_are_written_whole(tmp_path: Path) -> None:
    write([result(1, 2)], tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["recall.json", "recall.md"]


def test_choices_have_a_share_and_a_line_of_their_own() -> None:
    plain = result(1, 4)
    chosen = replace(plain, outcomes=tuple(replace(one, chosen=i < 3) for i, one in enumerate(plain.outcomes)))
    [one, two] = json.loads(to_json([plain, chosen]))["cells"]
    assert "chosen" not in one
    assert (two["chosen"]["right"], two["chosen"]["asked"]) == (3, 4)
    assert to_markdown([plain, chosen]).splitlines()[-1] == (
        "fact, 8,190 tokens, none: the right one of the choices is likeliest in 0.75 (0.30-0.95) of 4."
    )
