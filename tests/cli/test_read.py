"""`octavo read`: the document it leaves, and what can happen on the way: interrupt, kill, full disk, damage."""

from __future__ import annotations

import io
import json
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from octavo.cache.document import DocumentReader
from octavo.cli import main
from octavo.config.errors import DocumentError
from octavo.engine.texts import Text
from tests.support.tiny_llm import STORY

QUESTION = "Which word is the secret one?"
LONG = "\n".join(f"{n}. {STORY}" for n in range(110))  # about 9,000 tokens: two records of pages and a tail


def run_json(line: list[str], capsys: pytest.CaptureFixture[str]) -> dict:
    """The JSON of a command that must succeed."""
    code = main([*line, "--json"])
    out, err = capsys.readouterr()
    assert (code, err) == (0, "")
    return json.loads(out)


def asked(path: str, capsys: pytest.CaptureFixture[str], *more: str) -> tuple[str, list]:
    found = run_json(["ask", path, QUESTION, "--max-tokens", "6", *more], capsys)
    return found["answer"], found["sources"]


def test_document_answers_as_the_text_does(story: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = run_json(["read", story.name, "-o", "book.octavo"], capsys)
    assert found["document"] == "book.octavo"
    assert found["file_bytes"] == Path("book.octavo").stat().st_size
    assert found["usage"]["read_tokens"] == found["tokens"] > 100
    assert [(text["name"], text["chars"]) for text in found["texts"]] == [(story.name, len(story.read_text()))]
    assert found["cache_bytes"] > 0
    assert asked("book.octavo", capsys) == asked(story.name, capsys)


def test_page_for_people(story: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["read", story.name, "-o", "book.octavo"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith("book.octavo: ")
    assert "tokens/s" in out


def test_document_is_known_by_its_content_not_its_name(story: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_json(["read", story.name, "-o", "folded"], capsys)
    assert asked("folded", capsys) == asked(story.name, capsys)


def test_several_files_and_standard_input(
    story: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("Seen from the sea: Zoë.\n".encode())))
    found = run_json(["read", story.name, "-", "-o", "book.octavo"], capsys)
    assert [text["name"] for text in found["texts"]] == [story.name, "-"]
    looked = run_json(["inspect", "book.octavo", "--verify"], capsys)
    assert looked["complete"] is True
    assert looked["tokens"] == found["tokens"]
    assert [source["chars"] for source in looked["sources"]] == [len(story.read_text()), 24]
    assert looked["verified_bytes"] == looked["file_bytes"]


def test_reading_again_reads_nothing(story: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = run_json(["read", story.name, "-o", "book.octavo"], capsys)
    before = Path("book.octavo").read_bytes()
    again = run_json(["read", story.name, "-o", "book.octavo"], capsys)
    assert again["usage"]["read_tokens"] == 0
    assert again["usage"]["reused_tokens"] == first["tokens"]
    assert Path("book.octavo").read_bytes() == before


def test_chat_over_a_document(story: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    run_json(["read", story.name, "-o", "book.octavo"], capsys)
    answers = []
    for doc in ("book.octavo", story.name):
        monkeypatch.setattr(sys, "stdin", io.StringIO("What is the word?\n"))
        turn = run_json(["chat", "--doc", doc, "--max-tokens", "5"], capsys)
        answers.append((turn["answer"], turn["sources"]))
    assert answers[0] == answers[1]


def refused(line: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line of an error of a command that must fail with 1."""
    assert main(line) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("octavo: error: ")
    assert err.count("\n") == 1
    return err


def test_document_of_another_model_is_refused_and_kept(story: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_json(["read", story.name, "-o", "book.octavo"], capsys)
    before = Path("book.octavo").read_bytes()
    for line in (["ask", "book.octavo", QUESTION], ["read", story.name, "-o", "book.octavo"]):
        assert "another model" in refused([*line, "--model", "octavo-other"], capsys)
    assert Path("book.octavo").read_bytes() == before


def test_output_that_holds_something_else_is_refused_and_kept(story: Path, capsys: pytest.CaptureFixture[str]) -> None:
    notes = Path("notes.txt")
    notes.write_text("years of work\n", encoding="utf-8")
    assert "notes.txt" in refused(["read", story.name, "-o", "notes.txt"], capsys)
    run_json(["read", story.name, "-o", "book.octavo"], capsys)
    before = Path("book.octavo").read_bytes()
    assert "book.octavo" in refused(["read", "notes.txt", "-o", "book.octavo"], capsys)
    assert notes.read_text(encoding="utf-8") == "years of work\n"
    assert Path("book.octavo").read_bytes() == before


def test_altered_byte_and_other_files_are_refused(story: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_json(["read", story.name, "-o", "book.octavo"], capsys)
    data = bytearray(Path("book.octavo").read_bytes())
    data[len(data) // 2] ^= 1
    Path("altered.octavo").write_bytes(data)
    assert "altered.octavo" in refused(["inspect", "altered.octavo", "--verify"], capsys)
    Path("fake.octavo").write_bytes(b"nothing of the kind" * 9)
    assert "not an .octavo document" in refused(["ask", "fake.octavo", QUESTION], capsys)
    assert "missing.octavo" in refused(["ask", "missing.octavo", QUESTION], capsys)


@pytest.mark.parametrize("data", [b"", b"a\x00b", b"\xff\xfe"])
def test_bad_text_leaves_no_document(story: Path, data: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    Path("bad.txt").write_bytes(data)
    assert "bad.txt" in refused(["read", story.name, "bad.txt", "-o", "book.octavo"], capsys)
    assert not Path("book.octavo").exists()


@pytest.mark.parametrize("line", [["-o", "a.octavo"], ["story.txt"]])
def test_bad_usage(story: Path, line: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["read", *line]) == 2
    assert capsys.readouterr().out == ""


@pytest.fixture(scope="module")
def whole(shelf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The document of `long.txt`, read without a stop."""
    import octavo

    path = tmp_path_factory.mktemp("whole") / "whole.octavo"
    with octavo.load(shelf / "octavo-long").read(Text(name="long.txt", text=LONG), output=path):
        return path


@pytest.fixture
def long(story: Path) -> Path:
    """A text that takes seconds to read, in the working directory."""
    path = story.with_name("long.txt")
    path.write_text(LONG, encoding="utf-8")
    return path


def start(*more: str) -> subprocess.Popen[str]:
    line = [sys.executable, "-m", "octavo", "read", "long.txt", "-o", "long.octavo", "--model", "octavo-long", *more]
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for_pages(run: subprocess.Popen[str]) -> None:
    """Until the document holds tokens while it is still being read."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert run.poll() is None, run.communicate()
        try:
            assert DocumentReader.open("long.octavo").length > 0
            return
        except DocumentError:
            time.sleep(0.01)
    raise AssertionError("nothing was written within a minute")


def goes_on(whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same command reads the rest only, and the document answers as one that was never stopped."""
    found = run_json(["read", "long.txt", "-o", "long.octavo", "--model", "octavo-long"], capsys)
    assert 0 < found["usage"]["reused_tokens"] < found["tokens"]
    assert found["usage"]["read_tokens"] < found["tokens"]
    answer = asked("long.octavo", capsys, "--model", "octavo-long")
    assert answer == asked(str(whole), capsys, "--model", "octavo-long")


def test_interrupt_keeps_what_was_read_and_says_how_to_go_on(
    long: Path, whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with start() as run:
        wait_for_pages(run)
        run.send_signal(signal.SIGINT)
        out, err = run.communicate(timeout=60)
    assert run.returncode == 130
    assert out == ""
    assert err.startswith("octavo: interrupted; long.octavo keeps ")
    assert err.rstrip().endswith("the same command goes on from there")
    assert err.count("\n") == 1
    goes_on(whole, capsys)


def test_kill_keeps_what_was_read(long: Path, whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with start() as run:
        wait_for_pages(run)
        run.kill()
        run.communicate(timeout=60)
    assert run.returncode == -signal.SIGKILL
    assert run_json(["inspect", "long.octavo"], capsys)["complete"] is False
    assert main(["ask", "long.octavo", QUESTION, "--max-tokens", "2", "--model", "octavo-long"]) == 0
    out, err = capsys.readouterr()
    assert "tokens opened in" in out
    assert err.startswith("octavo: note: long.octavo: holds ")
    assert err.count("\n") == 1
    goes_on(whole, capsys)


def test_full_disk_is_one_line_and_keeps_what_was_read(
    long: Path, whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    limit = whole.stat().st_size * 3 // 4
    line = [sys.executable, "-m", "octavo", "read", "long.txt", "-o", "long.octavo", "--model", "octavo-long"]
    run = subprocess.run(
        line,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert run.returncode == 1
    assert run.stdout == ""
    assert run.stderr.startswith("octavo: error: ")
    assert "long.octavo" in run.stderr
    assert run.stderr.count("\n") == 1
    goes_on(whole, capsys)
