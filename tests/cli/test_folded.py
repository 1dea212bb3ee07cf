"""`octavo inspect --fold`: places as written, the strip, JSON, refusals before a model is loaded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from octavo.cli import main
from octavo.cli.folded import fold_lines
from octavo.engine.fold import FoldEntry, FoldToken


@pytest.fixture
def folded(story: Path) -> Path:
    """The story, read into a file by octavo-xs."""
    assert main(["read", str(story), "-o", "story.octavo"]) == 0
    return Path("story.octavo")


def entries_at(place: str, capsys: pytest.CaptureFixture[str]) -> list[dict]:
    capsys.readouterr()
    assert main(["inspect", "story.octavo", "--fold", place, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_character_and_its_token_are_one_place(folded: Path, story: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = entries_at("400", capsys)
    text = story.read_text(encoding="utf-8")
    tokens = [token for entry in found if entry["ratio"] == 4 for token in entry["tokens"]]
    here = next(token for token in tokens if token["start_char"] <= 400 < token["end_char"])
    assert text[here["start_char"] : here["end_char"]] == here["text"]
    assert found == entries_at(f"t{here['token']}", capsys) == entries_at(f"{story}:400", capsys)
    assert all(sum(token["share"] for token in entry["tokens"]) == pytest.approx(1) for entry in found)


def test_the_strip_for_people(folded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["inspect", "story.octavo", "--fold", "400"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "layer 1: 4 tokens an entry"
    assert "layer 2: 128 tokens an entry" in lines
    assert any(line.startswith("  entry ") and "story.txt:" in line for line in lines)
    assert all(len(line) <= 130 for line in lines)


def test_lines_of_one_entry() -> None:
    shares = (0.1, 0.5, 0.25, 0.15)
    texts = (" the", " sea", "\n", "a b")
    tokens = tuple(
        FoldToken(token=8 + i, text=text, file="a.txt", start_char=i, end_char=i + 1, share=share)
        for i, (text, share) in enumerate(zip(texts, shares, strict=True))
    )
    lines = fold_lines([FoldEntry(layer=3, ratio=4, entry=2, first_token=8, tokens=tokens)])
    assert lines == [
        "layer 3: 4 tokens an entry",
        "  entry 2  tokens 8-11  a.txt:0-4",
        "    ·the▂10% [·sea]█50% [↵]▅25% a·b▃15%",
    ]
    assert fold_lines([]) == ["no entry is complete here: these tokens are still in the window as they are"]


@pytest.mark.parametrize("place", ["", "x", "-1", "1.5", "t", "story.txt:t5", "t-3", "²"])
def test_what_is_no_place_is_refused(folded: Path, place: str, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["inspect", "story.octavo", f"--fold={place}"]) == 2
    assert f"--fold is {place!r}; it must be a character" in capsys.readouterr().err


def test_places_outside_and_other_files_are_refused(
    folded: Path, story: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    for place, says in [("999999", "character 999999"), ("t999999", "token 999999"), ("no.txt:1", "no text 'no.txt'")]:
        assert main(["inspect", "story.octavo", "--fold", place]) in (1, 2)
        assert says in capsys.readouterr().err
    assert main(["inspect", str(story), "--fold", "4"]) == 2
    assert "--fold needs a folded document" in capsys.readouterr().err
    assert main(["inspect", "story.octavo", "--fold", "4", "--model", "octavo-other"]) == 1
    assert "model" in capsys.readouterr().err
