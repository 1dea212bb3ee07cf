"""`octavo eval anatomy` on a tiny random model: the page, the JSON, the written report, bad input."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from octavo.cli import main

LINE = ["eval", "anatomy", "--lengths", "1K", "--kinds", "fact", "two_hop", "--count", "1"]


@pytest.fixture
def prose(story: Path) -> str:
    """Held-out text of some thousand tokens."""
    lines = [f"The {n}th evening was quiet, and nobody came down the road to the harbour." for n in range(200)]
    story.with_name("prose.txt").write_text("\n\n".join(lines), encoding="utf-8")
    return "prose.txt"


def test_json_and_report(prose: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = [*LINE, "--text", prose, "--out", "report", "--json", "--index-topk", "4"]
    assert main(line) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert err == ""
    assert [(cell["kind"], len(cell["questions"])) for cell in found["cells"]] == [("fact", 1), ("two_hop", 1)]
    assert [cell["questions"][0]["statements"] for cell in found["cells"]] == [1, 2]
    assert (found["about"]["dtype"], found["about"]["index_topk"]) == ("float32", 4)
    assert json.loads((tmp_path / "report" / "anatomy.json").read_text("utf-8")) == found


def test_page(prose: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*LINE, "--text", prose]) == 0
    out = capsys.readouterr().out
    assert out.startswith("## fact, ")
    assert "| evidence alone |" in out


def test_unknown_kind_is_one_line(prose: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "anatomy", "--lengths", "1K", "--kinds", "gossip", "--text", prose]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("octavo: error: unknown kind of cell 'gossip'")
