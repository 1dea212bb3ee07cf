"""`octavo read`: the document it leaves, and what can happen on the way: interrupt, kill, full disk, damage."""

from __future__ import annotations

import io
import json
import os
import re
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
from tests.support.commands import refused
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


def test_int8_weights_read_a_document_that_only_they_open(story: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_json(["read", story.name, "-o", "book.octavo", "--weights", "int8"], capsys)
    given = ("--weights", "int8")
    assert asked("book.octavo", capsys, *given) == asked(story.name, capsys, *given)
    assert "another model" in refused(["ask", "book.octavo", QUESTION], capsys)


def test_experts_on_disk_read_and_answer_the_same(story: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ("--offload-experts", "100KB")
    found = run_json(["read", story.name, "-o", "book.octavo", *given], capsys)
    assert found["experts"]["misses"] > 0
    assert 0 < found["experts"]["peak_bytes"] <= 100_000
    assert asked("book.octavo", capsys, *given) == asked("book.octavo", capsys)
    assert main(["read", story.name, "-o", "other.octavo", "--offload-experts", "much"]) == 2
    assert "offload_experts is 'much'; it must be a size such as 8GB" in capsys.readouterr().err


def test_page_for_people(story: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["read", story.name, "-o", "book.octavo"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith("book.octavo: ")
    assert "tokens/s" in out
    assert "\nindex scan: " in out


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


def outcome(file: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """Code, output and error of a question to a document; an error is one line that names the file."""
    code = main(["ask", file, QUESTION, "--max-tokens", "2", "--json"])
    out, err = capsys.readouterr()
    if code:
        assert code == 1
        assert out == ""
        assert err.startswith(f"octavo: error: {file}: ")
    assert err.count("\n") == (1 if err else 0)
    return code, out, err


def test_altered_document_answers_as_it_was_or_not_at_all(story: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_json(["read", story.name, "-o", "book.octavo"], capsys)
    data = Path("book.octavo").read_bytes()
    expected = json.loads(outcome("book.octavo", capsys)[1])
    failures = 0
    for place in [3, 70, *range(500, len(data), len(data) // 25), len(data) - 60]:
        altered = bytearray(data)
        altered[place] ^= 0x10
        Path("altered.octavo").write_bytes(altered)
        code, out, _ = outcome("altered.octavo", capsys)
        failures += code
        if not code:
            found = json.loads(out)
            assert (found["answer"], found["sources"]) == (expected["answer"], expected["sources"])
    assert failures > 10


def test_truncated_document_says_what_is_left_of_it(
    long: Path, whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = whole.read_bytes()
    seen = set()
    for size in [0, 5, 64, 3000, *range(60_000, len(data), len(data) // 6), len(data) - 1]:
        Path("cut.octavo").write_bytes(data[:size])
        code = main(["ask", "cut.octavo", QUESTION, "--max-tokens", "1", "--model", "octavo-long"])
        out, err = capsys.readouterr()
        assert err.count("\n") <= 1
        if code:
            assert (code, out) == (1, "")
            assert err.startswith("octavo: error: cut.octavo: ")
            seen.add(err.split(": ")[3].split(" ")[0])
        elif err:  # what is left is the document's beginning
            assert err.startswith("octavo: note: cut.octavo: holds ")
            seen.add("note")
        else:  # only the index at the end is lost
            seen.add("whole")
    assert seen == {"the", "ends", "holds", "note", "whole"}
    goes_on(whole, capsys, output="cut.octavo", cut=data[: len(data) * 3 // 4])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "the file is empty"),
        (b"a\x00b", "byte 1 is NUL, so this looks like a binary file; only UTF-8 text can be read"),
        (b"\xff\xfe", "not UTF-8 text: byte 0 is 0xff"),
    ],
)
def test_bad_text_leaves_no_document(
    story: Path, data: bytes, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("bad.txt").write_bytes(data)
    for line in (["read", story.name, "bad.txt", "-o", "book.octavo"], ["chat", "--doc", "bad.txt"]):
        assert refused(line, capsys).startswith(f"octavo: error: bad.txt: {message}")
    assert not Path("book.octavo").exists()


def test_name_that_no_document_can_keep_is_refused(story: Path, capsys: pytest.CaptureFixture[str]) -> None:
    story.rename("st\udcffory.txt")
    for line in (["read", "st\udcffory.txt", "-o", "book.octavo"], ["ask", "st\udcffory.txt", QUESTION]):
        assert "has no UTF-8 form" in refused(line, capsys)
    assert not Path("book.octavo").exists()


@pytest.mark.parametrize("output", ["/dev/null", "/dev/full", "pipe"])
def test_what_is_no_regular_file_is_not_written(story: Path, output: str, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo("pipe")
    assert f"{output}: is no regular file" in refused(["read", story.name, "-o", output], capsys)


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


def goes_on(
    whole: Path, capsys: pytest.CaptureFixture[str], *, output: str = "long.octavo", cut: bytes | None = None
) -> None:
    """The same command reads the rest only, and the document answers as one that was never stopped."""
    if cut is not None:
        Path(output).write_bytes(cut)
    found = run_json(["read", "long.txt", "-o", output, "--model", "octavo-long"], capsys)
    assert 0 < found["usage"]["reused_tokens"] < found["tokens"]
    assert found["usage"]["read_tokens"] == found["tokens"] - found["usage"]["reused_tokens"]
    answer = asked(output, capsys, "--model", "octavo-long")
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
    said = re.fullmatch(
        r"octavo: interrupted; long\.octavo keeps what was read, ([\d,]+) of ([\d,]+) tokens: "
        r"the same command goes on from there\n",
        err,
    )
    assert said
    looked = run_json(["inspect", "long.octavo"], capsys)
    assert [f"{looked[name]:,}" for name in ("tokens", "planned_tokens")] == list(said.groups())
    goes_on(whole, capsys)


def test_interrupt_before_reading_leaves_no_document(
    story: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("octavo.load", stop)
    assert main(["read", story.name, "-o", "book.octavo"]) == 130
    assert capsys.readouterr() == ("", "octavo: interrupted before anything was read\n")
    assert not Path("book.octavo").exists()


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
    assert re.fullmatch(
        r"octavo: error: long\.octavo: no room for the [\d,]+ bytes of tokens [\d,]+ to [\d,]+ \([\d,]+ bytes are free,"
        r" .*\); [\d,]+ tokens are kept; make room and read the same text again to go on\n",
        run.stderr,
    )
    goes_on(whole, capsys)
