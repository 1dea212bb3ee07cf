"""`octavo generate`: the completion on stdout, options passed on, repeatable draws."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

import octavo
from octavo.cli import main
from tests.support.tiny import tiny_config, write_tiny_model

PROMPT = "The keeper of"


def generate(line: list[str], capsys: pytest.CaptureFixture[str]) -> dict:
    """The JSON of a successful `octavo generate --json`."""
    code = main(["generate", *line, "--json"])
    out, err = capsys.readouterr()
    assert (code, err) == (0, "")
    return json.loads(out)


def test_text_is_that_of_the_python_call_and_ends_with_a_line_end(
    story: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["generate", PROMPT, "--max-tokens", "8"]) == 0
    made = octavo.load("octavo-xs").generate(PROMPT, max_tokens=8)
    assert capsys.readouterr() == (made.text + "\n", "")


def test_json_and_repeatable_draws(story: Path, capsys: pytest.CaptureFixture[str]) -> None:
    drawn = ["--temperature", "1.5", "--top-p", "0.9", "--top-k", "50", "--min-p", "0.001"]
    first = generate([PROMPT, "--max-tokens", "12", *drawn], capsys)
    again = generate([PROMPT, "--max-tokens", "12", *drawn, "--seed", str(first["seed"])], capsys)
    assert list(first) == ["text", "finish", "seed", "usage"]
    assert first["text"] == again["text"]
    others = [generate([PROMPT, "--max-tokens", "12", *drawn, "--seed", str(seed)], capsys) for seed in range(3)]
    assert len({other["text"] for other in others}) > 1


def test_stop_strings_end_it(story: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = generate([PROMPT, "--max-tokens", "12"], capsys)["text"]
    stop = whole[4:6]
    found = generate([PROMPT, "--max-tokens", "12", "--stop", "never in it", "--stop", stop], capsys)
    assert found["finish"] == "stop"
    assert found["text"] == whole[: whole.index(stop)]


def test_standard_input_is_the_prompt(
    story: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = generate([PROMPT, "--max-tokens", "8"], capsys)["text"]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(PROMPT.encode())))
    assert generate(["-", "--max-tokens", "8"], capsys)["text"] == expected


@pytest.mark.parametrize(
    ("line", "message"),
    [(["--max-tokens", "0"], "max_tokens is 0"), (["--top-p", "1.5"], "top_p is 1.5"), (["--stop", ""], "stop[0]")],
)
def test_bad_option_is_one_line_before_any_model(
    line: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["generate", PROMPT, "--model", "no-such-model", *line]) in (1, 2)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("octavo: error: ")
    assert message in err


def test_unknown_model_is_one_line(story: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", PROMPT, "--model", "octavo-zz"]) == 1
    assert capsys.readouterr().err.startswith("octavo: error: unknown model 'octavo-zz'")


def test_drafts_change_nothing_but_the_counts(
    tmp_path: Path, story: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tiny_config(max_position_embeddings=4096, num_nextn_predict_layers=1)
    model = ["--model", str(write_tiny_model(tmp_path / "octavo-mtp", config, 1)), "--max-tokens", "12"]
    lines = (["--draft", "0"], ["--draft", "3"], [])
    plain, drafted, usual = (generate([PROMPT, *model, *line], capsys) for line in lines)
    assert plain["text"] == drafted["text"] == usual["text"]
    assert plain["usage"]["drafted_tokens"] == plain["usage"]["accepted_tokens"] == 0
    assert drafted["usage"]["drafted_tokens"] > usual["usage"]["drafted_tokens"] > 0


@pytest.mark.parametrize("verb", ["generate", "ask", "chat"])
def test_drafts_of_a_model_without_a_predictor_are_refused_by_name(
    verb: str, story: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = {"generate": [PROMPT], "ask": [str(story), "Who?"], "chat": ["--doc", str(story)]}[verb]
    assert main([verb, *line, "--draft", "2"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == (
        "octavo: error: draft is 2: octavo-xs cannot draft tokens, it has no MTP block; leave it out or give 0\n"
    )


def test_int8_weights_are_passed_on(
    story: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = octavo.load("octavo-xs", weights="int8").generate(PROMPT, max_tokens=8).text
    chosen, load = [], octavo.load
    monkeypatch.setattr(octavo, "load", lambda *names, **options: chosen.append(options) or load(*names, **options))
    assert generate([PROMPT, "--max-tokens", "8", "--weights", "int8"], capsys)["text"] == expected
    assert chosen == [{"weights": "int8"}]
