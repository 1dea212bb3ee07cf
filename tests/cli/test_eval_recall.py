"""`octavo eval recall`: real cells on a tiny random model, the page, the JSON, the written report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from octavo.cli import main

LINE = ["eval", "recall", "--lengths", "1K", "2K", "--kinds", "fact", "--count", "2"]


@pytest.fixture
def prose(story: Path) -> str:
    """Held-out text of some thousand tokens."""
    path = story.with_name("prose.txt")
    lines = [f"The {n}th evening was quiet, and nobody came down the road to the harbour." for n in range(400)]
    path.write_text("\n\n".join(lines), encoding="utf-8")
    return path.name


def test_json_has_a_cell_for_each_length_and_every_answer(prose: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*LINE, "--text", prose, "--json"]) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert err == ""
    assert [cell["length"] for cell in found["cells"]] == [1024, 2048]
    assert found["about"]["model"] == "octavo-xs"
    for cell in found["cells"]:
        assert cell["kind"] == "fact"
        assert cell["text"] == prose
        assert cell["recall"]["asked"] == len(cell["outcomes"]) == 2
        assert cell["recall"]["right"] == sum(outcome["right"] for outcome in cell["outcomes"])
        assert abs(cell["tokens"] - cell["length"]) <= 0.02 * cell["length"]


def test_page_controls_and_report(prose: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["eval", "recall", "--lengths", "1K", "--kinds", "fact", "--count", "1", "--controls", "--index-topk", "4"]
    assert main([*line, "--text", prose, "--out", "report"]) == 0
    out = capsys.readouterr().out
    assert (tmp_path / "report" / "recall.md").read_text(encoding="utf-8") == out
    saved = json.loads((tmp_path / "report" / "recall.json").read_text(encoding="utf-8"))
    assert [cell["control"] for cell in saved["cells"]] == ["none", "random picks", "HCA off", "any words"]
    assert saved["about"]["index_topk"] == 4


def test_device_arithmetic_and_format_are_told(prose: str, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["eval", "recall", "--lengths", "1K", "--kinds", "fact", "--count", "1", "--text", prose, "--json"]
    assert main([*line, "--device", "cpu"]) == 0
    about = json.loads(capsys.readouterr().out)["about"]
    assert (about["device"], about["dtype"], about["main"]) == ("cpu", "float32", "fp32")


def test_entries_of_four_bits_take_less_memory(prose: str, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = []
    for main_format in ("fp8", "fp4"):
        line = ["eval", "recall", "--lengths", "1K", "--kinds", "fact", "--count", "1", "--text", prose, "--json"]
        assert main([*line, "--main", main_format]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["about"]["main"] == main_format
        sizes.append(found["cells"][0]["cache_bytes"])
    assert sizes[1] < sizes[0]


@pytest.mark.parametrize(
    ("line", "code", "message"),
    [
        (["--text", "nowhere.txt"], 2, "held-out text 'nowhere.txt'"),
        (["--lengths", "long"], 2, "context is 'long'"),
    ],
)
def test_bad_input_is_one_line(
    prose: str, line: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*LINE, *line]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"octavo: error: {message}")
    assert err.count("\n") == 1
