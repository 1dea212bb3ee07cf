"""The demo over a made-up play: every kind of question is asked, verdicts are honest, bad arguments are named."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def demo() -> ModuleType:
    spec = importlib.util.spec_from_file_location("demo", ROOT / "examples" / "demo.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["demo"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def play(tmp_path: Path) -> Path:
    cast = [("ADA", "heron"), ("BEN", "miller"), ("CLEO", "lantern")] * 5
    lines = [f"{name}:\nThe {word} of number {i} stands beside the water\nAnd waits for rain.\n\n"
             for i, (name, word) in enumerate(cast)]  # fmt: skip
    path = tmp_path / "play.txt"
    path.write_text("".join(lines), "utf-8")
    return path


def test_asks_all_kinds_and_says_where(demo: ModuleType, play: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fact = "The colour of the mill is teal."
    assert demo.main(["--text", str(play), "--fact", fact, "--ask", "What is the colour of the mill?"]) == 0
    out = capsys.readouterr().out
    assert out.count("\nspeaker: Who says") == out.count("\nquotation: How does") == demo.LINES
    assert out.count("\nplanted fact: ") == len(demo.FACTS)
    assert "your fact: What is the colour of the mill?" in out
    assert out.count("(right)") + out.count("(wrong: ") == 2 * demo.LINES + len(demo.FACTS)
    assert "without compression" in out
    assert "from characters" in out
    assert f"planted fact {out.count('marigold   (right)') + out.count('48213   (right)')} of 2" in out


def test_tasks_are_answered_by_the_text(demo: ModuleType, play: Path) -> None:
    text = demo.planted(play.read_text("utf-8"), [*demo.FACTS])
    for task in demo.tasks(text, []):
        assert task.expected is not None
        assert task.expected in text
        if task.kind == "quotation":
            quote = task.question.split('"')[1]
            assert f"{quote} {task.expected}" in text


def test_a_fact_without_its_question_is_refused(
    demo: ModuleType, play: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        demo.main(["--text", str(play), "--fact", "The colour of the mill is teal."])
    assert "1 --fact and 0 --ask: each fact needs its question" in capsys.readouterr().err


def test_so_many_tokens_with_a_table_of_times(
    demo: ModuleType, play: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "ROOM", 100)
    lines = [f"ADA:\nThe heron of number {i} stands beside the water\n\n" for i in range(200)]
    play.write_text("".join(lines), "utf-8")
    assert demo.main(["--text", str(play), "--tokens", "2K"]) == 0
    out = capsys.readouterr().out
    read = int(out.split(" tokens read in")[0].split()[-1].replace(",", ""))
    assert 1_700 < read <= 2_048
    assert f"{read:>12,}" in out.split("up to token")[1]
    assert "first token of an answer 0." in out
    assert "in all" in out


def test_a_short_text_is_read_whole(demo: ModuleType, play: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert demo.main(["--text", str(play), "--tokens", "64K"]) == 0
    assert "right answers" in capsys.readouterr().out


def test_times_by_parts(demo: ModuleType) -> None:
    clock = demo.Clock(lambda *_: None)
    clock.marks = [(0, 10.0), (400, 12.0), (800, 20.0)]
    lines = clock.table().splitlines()[1:]
    assert [line.split() for line in lines] == [["400", "2.0", "200"], ["800", "10.0", "50"], ["in", "all", "80"]]
