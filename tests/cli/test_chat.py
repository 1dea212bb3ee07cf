"""`octavo chat`: a turn a line, with and without a document."""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import octavo
from octavo.cli import main
from octavo.engine.llm import load
from octavo.engine.serving.library import Library
from octavo.engine.serving.service import Service
from octavo.engine.serving.settings import ServiceSettings
from tests.support.listening import Running, running

KEYS = tuple(f"key-{place}" for place in range(6))  # requests are counted by key


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


@pytest.fixture(scope="module")
def server(shelf: Path) -> Iterator[Running]:
    """The model that is loaded without --url, served."""
    llm = load(shelf / "octavo-xs", "float32")
    service = Service(llm, ServiceSettings(lanes=1, cache_bytes=64 * 2**20), library=Library(llm))
    with running(service, api_keys=KEYS, requests_per_minute=9) as found:
        yield found


def test_a_server_answers_as_the_model_here_does(
    story: Path, server: Running, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OCTAVO_API_KEY", KEYS[0])
    line, said = ["--doc", story.name, "--thinking", "--max-tokens", "6", "--json"], "Which word?\n\nAnd where?\n"
    here = [json.loads(turn) for turn in chat(line, said, monkeypatch, capsys).splitlines()]
    there = [json.loads(turn) for turn in chat(["--url", server.url, *line], said, monkeypatch, capsys).splitlines()]
    assert len(there) == 2
    for turn, other in zip(there, here, strict=True):
        assert list(turn) == list(other)
        assert list(turn["usage"]) == list(other["usage"])
        assert [turn["answer"], turn["reasoning"]] == [other["answer"], other["reasoning"]]
        places = [[(one["file"], one["start"], one["end"]) for one in which["sources"]] for which in (turn, other)]
        assert places[0] == places[1] != []
        for name in ("answer_tokens", "finish", "prefix"):
            assert turn["usage"][name] == other["usage"][name]
    out = chat(["--url", f"{server.url}/v1", "--doc", "story"], "Which word?\n", monkeypatch, capsys)
    assert chat(["--doc", story.name], "Which word?\n", monkeypatch, capsys) == out


def test_a_server_hears_system_words_and_seeds(
    story: Path, server: Running, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OCTAVO_API_KEY", KEYS[1])
    line = ["--system", "Be brief.", "--temperature", "0.9", "--seed", "7", "--model", "octavo-xs"]
    here = chat(line, "Hello.\n", monkeypatch, capsys)
    assert chat(["--url", server.url, *line], "Hello.\n", monkeypatch, capsys) == here
    assert chat(["--url", server.url], "", monkeypatch, capsys) == ""


@pytest.mark.parametrize(
    ("key", "line", "code", "message"),
    [
        ("", [], 1, "{url}: 401: it wants a key: set OCTAVO_API_KEY"),
        ("other", [], 1, "{url}: 401: it does not know the key of OCTAVO_API_KEY"),
        (KEYS[2], ["--doc", "nothing"], 1, "{url}: there is no document 'nothing', and no file of that name here"),
        (KEYS[2], ["--model", "octavo-s"], 1, "{url}: model 'octavo-s' is not served there; it has octavo-xs"),
        (KEYS[2], ["--max-tokens", "0"], 1, "max_tokens is 0; it must be an integer from 1"),
        (KEYS[2], ["--weights", "int8"], 2, "--weights beside --url: that is chosen where the server is started"),
        (KEYS[2], ["--draft", "2", "--offload-experts", "8GB"], 2, "--offload-experts, --draft beside --url: that is "
         "chosen where the server is started"),
        (KEYS[2], ["--url", "localhost"], 2, "--url is 'localhost'; it must be the address of a server, as "
         "http://localhost:8000"),
        (KEYS[2], ["--url", "http://127.0.0.1:1"], 1, "http://127.0.0.1:1: no server can be reached: "
         "Connection refused"),
    ],
)  # fmt: skip
def test_what_goes_wrong_with_a_server_is_one_line(
    key: str, line: list[str], code: int, message: str, server: Running, story: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("OCTAVO_API_KEY", key)
    monkeypatch.setattr(sys, "stdin", io.StringIO("Hello.\n"))
    assert main(["chat", "--url", server.url, *line]) == code
    assert capsys.readouterr() == ("", f"octavo: error: {message.format(url=server.url)}\n")


def test_a_turn_too_many_a_minute_says_when_to_try_again(
    server: Running, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OCTAVO_API_KEY", KEYS[3])
    monkeypatch.setattr(sys, "stdin", io.StringIO("Hello.\n" * 99))
    assert main(["chat", "--url", server.url, "--max-tokens", "1", "--json"]) == 1
    out, err = capsys.readouterr()
    assert out.count("\n") >= 8
    told = r"octavo: error: http://[\d.:]+: 429: too many requests: the limit is 9 a minute; .*; retry after [1-7] s\n"
    assert re.fullmatch(told, err)
