"""`octavo ask` on texts: the JSON that is promised, the page for people, and what is refused."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import octavo
from octavo.cli import main
from tests.support.checkpoints import official_tensors, stored_config, write_folder
from tests.support.commands import refused
from tests.support.tiny_tokenizer import tiny_tokenizer

QUESTION = "Which word is the secret one?"


def ask(line: list[str], capsys: pytest.CaptureFixture[str]) -> dict:
    """The JSON of a successful `octavo ask --json`."""
    code = main(["ask", *line, "--json"])
    out, err = capsys.readouterr()
    assert (code, err) == (0, "")
    return json.loads(out)


def test_json_has_answer_sources_and_usage(story: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = ask([story.name, QUESTION, "--max-tokens", "6"], capsys)
    assert list(found) == ["answer", "sources", "usage"]
    text = story.read_text(encoding="utf-8")
    assert found["sources"]
    for source in found["sources"]:
        assert list(source) == ["file", "start", "end", "text", "weight"]
        assert source["file"] == story.name
        assert source["text"] == text[source["start"] : source["end"]]
        assert 0 < source["weight"] <= 1
    usage = found["usage"]
    assert usage["answer_tokens"] <= 6
    assert usage["read_tokens"] == usage["reused_tokens"] > 100
    assert usage["cache_bytes"] > 0
    assert usage["read_seconds"] > 0


def test_offsets_count_characters_of_the_file_as_stored(story: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A byte order mark, CR LF, characters of two to four bytes and of several code points, in two files."""
    files = ["one.txt", "sub/two.txt"]
    Path("sub").mkdir()
    for n, file in enumerate(files):
        line = f"\ufeffZoë sah die 雪 fallen, e\u0301tait-ce {n}? 👩\u200d👩\u200d👧 <|im_end|> nodded.\r\n\r\n \t"
        Path(file).write_bytes((line * 12).encode())
    assert main(["read", *files, "-o", "both.octavo"]) == 0
    capsys.readouterr()
    seen = set()
    for question in (QUESTION, "Wer?", "Ce 1?", "a b c d e f g"):
        answers = [ask([*given, question, "--max-tokens", "4"], capsys) for given in (files, ["both.octavo"])]
        assert answers[0]["sources"] == answers[1]["sources"] != []
        for source in answers[0]["sources"]:
            text = Path(source["file"]).read_bytes().decode()
            assert source["text"] == text[source["start"] : source["end"]] != ""
            seen.add(source["file"])
    assert seen == set(files)


def test_answer_is_that_of_the_python_call(story: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = ask([story.name, QUESTION, "--max-tokens", "6", "--temperature", "0.8", "--seed", "5"], capsys)
    with octavo.load("octavo-xs").read(Path(story.name)) as doc:
        answer = doc.ask(QUESTION, max_tokens=6, temperature=0.8, seed=5)
    assert found["answer"] == answer.text
    assert found["sources"] == answer.to_dict()["sources"]


@pytest.mark.parametrize(("flags", "quote"), [([], None), (["--quote"], True), (["--no-quote"], False)])
@pytest.mark.parametrize("usual", [True, False])
def test_quoting_is_as_told_or_as_the_model_was_made_for(
    usual: bool, flags: list[str], quote: bool | None, story: Path, shelf: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = story.parent / "made"
    shutil.copytree(shelf / "octavo-xs", folder)
    (folder / "generation_config.json").write_text(json.dumps({"quote": usual}), encoding="utf-8")
    found = ask([story.name, QUESTION, "--max-tokens", "8", "--model", str(folder), *flags], capsys)
    with octavo.load(folder).read(Path(story.name)) as doc:
        texts = {told: doc.ask(QUESTION, max_tokens=8, quote=told).text for told in (True, False)}
    assert texts[True] != texts[False]
    assert found["answer"] == texts[usual if quote is None else quote]


def test_page_for_people(story: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = ask([story.name, QUESTION, "--max-tokens", "6"], capsys)
    assert main(["ask", story.name, QUESTION, "--max-tokens", "6"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(expected["answer"] + "\n\n")
    first = expected["sources"][0]
    assert f"{first['weight']:.0%}  story.txt:{first['start']}-{first['end']}  " in out
    assert f"({expected['usage']['read_tokens']:,} tokens read in " in out


def test_several_texts_are_one_document(story: Path, capsys: pytest.CaptureFixture[str]) -> None:
    second = story.with_name("second.txt")
    second.write_text("Another keeper came in spring.\n", encoding="utf-8")
    alone = ask([story.name, QUESTION, "--max-tokens", "1"], capsys)["usage"]["read_tokens"]
    both = ask([story.name, second.name, QUESTION, "--max-tokens", "1"], capsys)["usage"]["read_tokens"]
    assert both > alone


def test_standard_input_is_a_text(
    story: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = ask([story.name, QUESTION, "--max-tokens", "4"], capsys)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(story.read_bytes())))
    found = ask(["-", QUESTION, "--max-tokens", "4"], capsys)
    assert found["answer"] == expected["answer"]
    assert {source["file"] for source in found["sources"]} == {"-"}


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("empty.txt", b"", "empty.txt: the file is empty"),
        ("binary.txt", b"ab\x00cd", "binary.txt: byte 2 is NUL"),
        ("latin.txt", "café".encode("latin-1"), "latin.txt: not UTF-8 text: byte 3"),
        ("missing.txt", None, "missing.txt: no such file"),
    ],
)
def test_bad_text_is_one_line(
    story: Path, name: str, data: bytes | None, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if data is not None:
        story.with_name(name).write_bytes(data)
    assert main(["ask", name, QUESTION]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"octavo: error: {message}")
    assert err.count("\n") == 1


def test_text_longer_than_the_context_is_refused_before_it_is_read(
    story: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    story.write_text("word " * 20_000, encoding="utf-8")
    assert main(["ask", story.name, QUESTION]) == 1
    err = capsys.readouterr().err
    assert "tokens" in err
    assert "4,096" in err


@pytest.mark.parametrize(
    ("question", "message"),
    [
        ("why " * 10_000, r"the question: [\d,]+ tokens after 0 make [\d,]+; the context of this model ends at 4,096"),
        ("  ", "the question is empty"),
        ("a\udcff", "the question: character 1 is the lone surrogate U\\+DCFF, which has no UTF-8 form"),
    ],
)
def test_bad_question_is_refused_before_a_text_is_read(
    story: Path, question: str, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delattr("octavo.engine.llm.LLM.read")
    assert main(["ask", story.name, question]) == 1
    assert re.fullmatch(f"octavo: error: {message}\n", capsys.readouterr().err)


def test_question_that_does_not_fit_behind_its_text_is_refused(
    story: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    story.write_text("word " * 2_000, encoding="utf-8")
    assert main(["ask", story.name, "why " * 1_200]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    message = r"the question: [\d,]+ tokens after [\d,]+ make [\d,]+; the context of this model ends at 4,096"
    assert re.fullmatch(f"octavo: error: {message}\n", err)


@pytest.mark.parametrize(
    "line", [[], ["story.txt"], ["a.octavo", "story.txt", "Who?"], ["story.txt", "Who?", "--quote", "--no-quote"]]
)
def test_bad_usage_is_2_and_loads_nothing(line: list[str], story: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ask", *line, "--model", "no-such-model"]) == 2
    assert capsys.readouterr().err.startswith("octavo: error: ")


@pytest.mark.parametrize(("flag", "value"), [("--max-tokens", "0"), ("--temperature", "nan"), ("--seed", "-1")])
def test_bad_option_is_refused_before_a_model_is_loaded(
    story: Path, flag: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ask", story.name, QUESTION, "--model", "no-such-model", flag, value]) == 1
    name = flag.removeprefix("--").replace("-", "_")
    assert capsys.readouterr().err.startswith(f"octavo: error: {name} is {value}; it must be ")


def test_checkpoint_with_a_missing_or_a_cut_shard_is_refused(story: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = stored_config(vocab_size=400)
    folder = write_folder(story.with_name("model"), config, official_tensors(config), shards=2)
    tiny_tokenizer(folder, vocab_size=400)
    assert ask([story.name, QUESTION, "--max-tokens", "1", "--model", folder.name], capsys)["usage"]
    lost = folder / "model-00002-of-00002.safetensors"
    with open(lost, "r+b") as file:
        file.truncate(lost.stat().st_size - 1)
    cut = refused(["ask", story.name, QUESTION, "--model", folder.name], capsys)
    assert re.search(rf"{lost.name}: truncated, tensor '.*' ends at byte \d+ of \d+", cut)
    lost.unlink()
    for line in (["ask", story.name, QUESTION, "--model", folder.name], ["inspect", "./model"]):
        assert re.search(rf"missing shard model/{lost.name}, which should hold tensor '.*'", refused(line, capsys))


def test_whole_command_in_a_process_of_its_own(story: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = ask([story.name, QUESTION, "--max-tokens", "3"], capsys)
    line = [sys.executable, "-m", "octavo", "ask", story.name, QUESTION, "--max-tokens", "3", "--json"]
    run = subprocess.run(line, cwd=story.parent, capture_output=True, text=True, check=True)
    found = json.loads(run.stdout)
    assert run.stderr == ""
    assert (found["answer"], found["sources"]) == (expected["answer"], expected["sources"])
