"""Documents in files: the same answers, going on after any interruption, refusals that lose nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from octavo.config.errors import DocumentError
from octavo.engine.answer import Prefix
from octavo.engine.document import Document
from octavo.engine.llm import LLM, load
from octavo.engine.sources import SourceRule
from octavo.engine.texts import Text
from tests.support.tiny_llm import STORY, tiny_llm

TWO_WINDOWS: dict[str, object] = {"compress_ratios": (4, 128), "max_position_embeddings": 16384}
LONG = [Text(name="a.txt", text=STORY * 75), Text(name="b.txt", text="".join(reversed(STORY)) * 16)]
QUESTION = "What is the secret word?"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model")
    tiny_llm(path, **TWO_WINDOWS)
    return path


@pytest.fixture(scope="module")
def llm(folder: Path) -> LLM:
    return load(folder, chunk=512)


@pytest.fixture(scope="module")
def whole(llm: LLM) -> Document:
    return llm.read(LONG)


def same(a: Document, b: Document) -> bool:
    """Bit by bit: tails, all rows of whole entries, and what a drawn answer says."""
    one, two = a.state.snapshot(), b.state.snapshot()
    newest = one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)
    first, second = (doc.ask(QUESTION, max_tokens=5, temperature=1.0, seed=4) for doc in (a, b))
    places = [[(Path(s.file).name, s.start, s.end, s.weight) for s in answer.sources] for answer in (first, second)]
    answers = first.token_ids == second.token_ids and places[0] == places[1]
    pages = len(a.state.pages)
    rows, others = a.state.read_pages(0, pages), b.state.read_pages(0, pages)
    specs = a.state.pool.specs
    filled = all((rows[k][: len(a) // s.ratio] == others[k][: len(a) // s.ratio]).all() for k, s in specs.items())
    return newest and answers and filled


def stop_after(tokens: int) -> Callable[[int, int, int], None]:
    def progress(done: int, total: int, cache_bytes: int) -> None:
        if done >= tokens:
            raise KeyboardInterrupt

    return progress


def test_saved_and_opened_gives_the_same_bits(llm: LLM, whole: Document, tmp_path: Path) -> None:
    path = tmp_path / "book.octavo"
    whole.save(path)
    with llm.open(path) as doc:
        assert same(whole, doc)
        assert doc.notice is None
        assert [entry.name for entry in doc.texts.entries] == ["a.txt", "b.txt"]
        assert doc.texts.entries == whole.texts.entries
        assert (doc.usage.read_tokens, doc.usage.reused_tokens) == (0, len(whole))
        assert doc.ask(QUESTION, max_tokens=1).usage.prefix is Prefix.SNAPSHOT


def test_written_while_reading_gives_the_same_bits(llm: LLM, whole: Document, tmp_path: Path) -> None:
    path = tmp_path / "book.octavo"
    seen: list[tuple[int, int, int]] = []
    with llm.read(LONG, output=path, progress=lambda *figures: seen.append(figures)) as doc:
        assert same(whole, doc)
        assert doc.usage.read_tokens == len(whole)
    assert seen[0] == (0, len(whole), 0)
    assert [done for done, _, _ in seen] == [*range(0, len(whole), 512), len(whole)]
    assert seen[-1][2] == doc.usage.cache_bytes
    with llm.open(path) as opened:
        assert same(whole, opened)


@pytest.mark.parametrize("tokens", [0, 512, 4096, 5000, 8500])
def test_interrupted_reading_keeps_what_was_read_and_goes_on(
    llm: LLM, whole: Document, tmp_path: Path, tokens: int
) -> None:
    path = tmp_path / "book.octavo"
    with pytest.raises(KeyboardInterrupt):
        llm.read(LONG, output=path, progress=stop_after(tokens))
    kept = -(-tokens // 512) * 512
    assert kept < len(whole)
    if kept:
        with llm.open(path) as part:
            assert len(part) == kept
            assert part.notice is not None
            assert f"holds {kept:,} of {len(whole):,} tokens" in part.notice
            assert part.texts.entries[0].tokens == min(kept - 1, whole.texts.entries[0].tokens)
            for source in part.ask(QUESTION, max_tokens=2).sources:
                assert source.text == LONG[0].text[source.start : source.end]
    with llm.read(LONG, output=path) as doc:
        assert (doc.usage.read_tokens, doc.usage.reused_tokens) == (len(whole) - kept, kept)
        assert doc.usage.prefix is (Prefix.SNAPSHOT if kept else Prefix.NONE)
        assert same(whole, doc)
    with llm.open(path) as opened:
        assert same(whole, opened)


def test_document_cut_off_inside_a_character_quotes_whole_ones(llm: LLM, tmp_path: Path) -> None:
    path, tokens = tmp_path / "snow.octavo", 0
    for padding in range(4):  # one of them puts the end of the first chunk into a character
        text = "a" * padding + "\ufeff雪が降る😀\r\n" * 100
        path.unlink(missing_ok=True)
        with pytest.raises(KeyboardInterrupt):
            llm.read(Text(name="snow.txt", text=text), output=path, progress=stop_after(512))
        with llm.open(path) as part:
            tokens = part.texts.entries[0].tokens
            answer = part.ask(QUESTION, max_tokens=3, rule=SourceRule(count=40, smooth=1, widest=2, least=0.0))
        assert max(source.end for source in answer.sources) > 150
        for source in answer.sources:
            assert source.text == text[source.start : source.end] != ""
        if tokens < 511:
            break
    assert 508 <= tokens < 511


def test_killed_reading_goes_on(llm: LLM, folder: Path, whole: Document, tmp_path: Path) -> None:
    path, texts = tmp_path / "book.octavo", [tmp_path / text.name for text in LONG]
    for file, text in zip(texts, LONG, strict=True):
        file.write_bytes(text.text.encode())
    code = (
        "import sys, time, pathlib, octavo\n"
        "llm = octavo.load(sys.argv[1], chunk=512)\n"
        "def slow(done, total, size):\n"
        "    print(done, flush=True)\n"
        "    time.sleep(60 if done >= 4608 else 0)\n"
        "llm.read([pathlib.Path(p) for p in sys.argv[3:]], output=sys.argv[2], progress=slow)\n"
    )
    command = [sys.executable, "-c", code, str(folder), str(path), *map(str, texts)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as reading:
        assert reading.stdout is not None
        for line in reading.stdout:
            if int(line) >= 4608:
                break
        os.kill(reading.pid, signal.SIGKILL)
    with llm.open(path) as part:
        assert len(part) == 4096
    with llm.read(texts, output=path) as doc:
        assert doc.usage.reused_tokens == 4096
        assert same(whole, doc)


def test_complete_file_is_not_read_again(llm: LLM, whole: Document, tmp_path: Path) -> None:
    path = tmp_path / "book.octavo"
    whole.save(path)
    size = path.stat().st_size
    with llm.read(LONG, output=path) as doc:
        assert doc.usage.read_tokens == 0
    assert path.stat().st_size == size


def test_other_texts_are_refused_and_the_file_stays(llm: LLM, whole: Document, tmp_path: Path) -> None:
    path = tmp_path / "book.octavo"
    whole.save(path)
    before = path.read_bytes()
    changed = Text(name="b.txt", text=LONG[1].text + "!")
    with pytest.raises(DocumentError, match=r"holds another text at the place of b\.txt"):
        llm.read([LONG[0], changed], output=path)
    with pytest.raises(DocumentError, match=r"also holds b\.txt"):
        llm.read(LONG[:1], output=path)
    with pytest.raises(DocumentError, match=r"does not hold c\.txt"):
        llm.read([*LONG, Text(name="c.txt", text="more")], output=path)
    assert path.read_bytes() == before
    assert llm.open(path).ask(QUESTION, max_tokens=1).token_ids


def test_other_model_other_rows_and_no_document_are_refused(llm: LLM, folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "book.octavo"
    with llm.read(STORY) as doc:
        doc.save(path)
    before = path.read_bytes()
    other = tiny_llm(tmp_path / "other", seed=2, **TWO_WINDOWS)
    for call in (lambda: other.open(path), lambda: other.read(STORY, output=path)):
        with pytest.raises(DocumentError, match="was made with another model"):
            call()
    with pytest.raises(DocumentError, match="main = fp32; the cache here has bf16"):
        load(folder, main="bf16").open(path)
    assert path.read_bytes() == before
    text = tmp_path / "notes.txt"
    text.write_text("my notes")
    with pytest.raises(DocumentError, match="not an .octavo document"):
        llm.read(STORY, output=text)
    with pytest.raises(DocumentError, match="not an .octavo document"):
        llm.open(text)
    assert text.read_text() == "my notes"
    with pytest.raises(DocumentError, match="cannot be opened"):
        llm.open(tmp_path / "none.octavo")


def test_saving_over_a_file_is_refused(llm: LLM, tmp_path: Path) -> None:
    path = tmp_path / "book.octavo"
    path.write_bytes(b"precious")
    with llm.read(STORY) as doc, pytest.raises(DocumentError, match="exists already"):
        doc.save(path)
    assert path.read_bytes() == b"precious"


def test_saving_without_room_leaves_no_file(llm: LLM, tmp_path: Path) -> None:
    import resource

    path = tmp_path / "book.octavo"
    with llm.read(STORY) as doc:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (8192, hard))
        try:
            with pytest.raises(DocumentError, match=r"no room for the [\d,]+ bytes"):
                doc.save(path)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            signal.signal(signal.SIGXFSZ, handler)
        assert not path.exists()
        doc.save(path)
        assert llm.open(path).ask(QUESTION, max_tokens=3).token_ids == doc.ask(QUESTION, max_tokens=3).token_ids


def test_opened_document_can_be_saved_again(llm: LLM, whole: Document, tmp_path: Path) -> None:
    whole.save(tmp_path / "one.octavo")
    with llm.open(tmp_path / "one.octavo") as doc:
        doc.save(tmp_path / "two.octavo")
    with llm.open(tmp_path / "two.octavo") as again:
        assert same(whole, again)


def test_opening_does_not_depend_on_the_length(llm: LLM, whole: Document, tmp_path: Path) -> None:
    path = tmp_path / "book.octavo"
    whole.save(path)
    best = 1.0
    for _ in range(5):
        start = time.perf_counter()
        llm.open(path).close()
        best = min(best, time.perf_counter() - start)
    assert best < 0.05
