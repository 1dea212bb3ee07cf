"""`octavo chat`: a turn a line, with and without a document."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

import octavo
from octavo.cli import main


def chat(line: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """Standard output of a successful `octavo chat` that hears `said`."""
    monkeypatch.setattr(sys, "stdin", io.StringIO(said))
    code = main(["chat", "--max-tokens", "5", *line])
    out, err = capsys.readouterr()
    assert (code, err) == (0, "")
    return out


def test_turns_are_those_of_a_conversation(
    story: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = chat(["--system", "Be brief.", "--json"], "Hello.\n\nWho are you?\n", monkeypatch, capsys)
    with octavo.load("octavo-xs").converse(system="Be brief.", max_tokens=5) as talk:
        expected = [talk.say("Hello."), talk.say("Who are you?")]
    found = [json.loads(line) for line in out.splitlines()]
    assert [turn["answer"] for turn in found] == [reply.text for reply in expected]
    assert [turn["usage"]["reused_tokens"] for turn in found] == [reply.usage.reused_tokens for reply in expected]
    assert found[1]["usage"]["reused_tokens"] > 0
    assert all(turn["sources"] == [] for turn in found)


def test_document_gives_sources(
    story: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = chat(["--doc", story.name, "--json"], "What is the word?\n", monkeypatch, capsys)
    turn = json.loads(out)
    source, text = turn["sources"][0], story.read_text(encoding="utf-8")
    assert source["text"] == text[source["start"] : source["end"]]
    assert turn["usage"]["reused_tokens"] > 100


def test_page_for_people_shows_the_same_answer(
    story: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    turn = json.loads(chat(["--doc", story.name, "--json"], "Which word?\n", monkeypatch, capsys))
    out = chat(["--doc", story.name], "Which word?\n", monkeypatch, capsys)
    assert out.startswith(turn["answer"] + "\n")
    assert f"story.txt:{turn['sources'][0]['start']}-" in out


def test_reasoning_is_told_apart(
    story: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    turn = json.loads(chat(["--thinking", "--json"], "Why?\n", monkeypatch, capsys))
    with octavo.load("octavo-xs").converse(thinking=True, max_tokens=5) as talk:
        reply = talk.say("Why?")
    assert (turn["answer"], turn["reasoning"]) == (reply.text, reply.completion.reasoning)
    assert turn["reasoning"] != ""


def test_nothing_said_ends_at_once(
    story: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert chat([], "", monkeypatch, capsys) == ""


def test_system_beside_a_document_is_bad_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["chat", "--system", "x", "--doc", "a.txt", "--model", "no-such-model"]) == 2
    assert capsys.readouterr().err.startswith("octavo: error: --system and --doc")


def test_experts_on_disk_talk_the_same(
    story: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["--doc", story.name, "--max-tokens", "6", "--json"]
    made = [json.loads(chat([*line, *more], "Which?\n", monkeypatch, capsys))["answer"]
            for more in ([], ["--offload-experts", "100KB"])]  # fmt: skip
    assert made[0] == made[1]


def test_int8_weights_talk_about_a_document_that_they_read(
    story: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["read", story.name, "-o", "book.octavo", "--weights", "int8"]) == 0
    capsys.readouterr()
    turn = json.loads(chat(["--doc", "book.octavo", "--weights", "int8", "--json"], "Which?\n", monkeypatch, capsys))
    assert turn["usage"]["reused_tokens"] > 100
    monkeypatch.setattr(sys, "stdin", io.StringIO("Which?\n"))
    assert main(["chat", "--doc", "book.octavo"]) == 1
    assert "another model" in capsys.readouterr().err
