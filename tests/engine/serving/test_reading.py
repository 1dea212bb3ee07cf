"""A document as tasks: files that go on, what is kept when it is given up, errors before anything is there."""

from __future__ import annotations

from pathlib import Path

import pytest

from octavo.config.errors import DocumentError, LimitError, TextError, UsageError
from octavo.engine.folding import header_of
from octavo.engine.llm import LLM
from octavo.engine.serving.events import Ended, Event, Reading
from octavo.engine.serving.library import DocumentState, Library
from octavo.engine.serving.reading import ReadingWork
from octavo.engine.serving.shelf import Shelf
from octavo.engine.texts import Text
from tests.support.documents import flip
from tests.support.tiny_llm import tiny_llm

TALE = "".join(f"Line {i} says {i * i}. " for i in range(100))


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> LLM:
    return tiny_llm(tmp_path_factory.mktemp("model"), chunk=256)


def work(llm: LLM, library: Library, heard: list[Event], *, text: str = TALE) -> ReadingWork:
    return ReadingWork(llm, library, "r", "tale", [Text(name="t", text=text)], heard.append)


@pytest.mark.parametrize("on_disk", [False, True])
def test_read_in_tasks_it_is_the_document(llm: LLM, tmp_path: Path, on_disk: bool) -> None:
    library, heard = Library(llm, tmp_path if on_disk else None), []
    one = work(llm, library, heard)
    assert one.start() == (0, 0)
    over, left = False, one.total
    while left:
        over = one.read(min(left, 512), workers=2)
        left -= min(left, 512)
    assert over
    last = one.end()
    assert isinstance(last, Ended)
    assert (last.usage.prompt_tokens, last.usage.cached_tokens) == (one.total, 0)
    one.close()
    assert [e.done for e in heard if isinstance(e, Reading)][-1] == one.total
    document, _ = library.open("tale")
    with llm.read(Text(name="t", text=TALE)) as whole:
        assert document.ask("What?", max_tokens=5).token_ids == whole.ask("What?", max_tokens=5).token_ids
    library.leave(document)
    library.close()
    assert llm.pool.allocator.used == 0


@pytest.mark.parametrize("on_disk", [False, True])
@pytest.mark.parametrize("how", ["flipped", "removed"])
def test_a_damaged_or_vanished_swap_file_is_read_again(llm: LLM, tmp_path: Path, how: str, on_disk: bool) -> None:
    library, shelf = Library(llm, tmp_path / "books" if on_disk else None), Shelf(
        tmp_path / "shelf", header_of(llm), max_bytes=2**28
    )
    one = work(llm, library, [])
    one.start()
    assert not one.read(768, workers=1)
    one.save(shelf)
    [file] = (tmp_path / "shelf").glob("job-*.octavo")
    if how == "removed":
        file.unlink()
    else:
        flip(file, file.stat().st_size // 2)
    one.restore(shelf)
    assert (shelf.lost, shelf.files) == (1, 0)
    assert one.read(one.total - 768, workers=1)
    one.close()
    document, _ = library.open("tale")
    with llm.read(Text(name="t", text=TALE)) as whole:
        assert document.ask("What?", max_tokens=5).token_ids == whole.ask("What?", max_tokens=5).token_ids
    library.leave(document)
    library.close()
    shelf.close()
    assert llm.pool.allocator.used == 0


def test_given_up_the_file_keeps_what_was_read(llm: LLM, tmp_path: Path) -> None:
    library = Library(llm, tmp_path)
    one = work(llm, library, [])
    one.start()
    one.read(512, workers=1)
    one.close()
    one.close()
    info = library.info("tale")
    assert (info.state, info.done) == (DocumentState.PART, 512)
    changed = work(llm, library, [], text=TALE.replace("Line 7", "Lime 7"))
    with pytest.raises(DocumentError, match="other texts|other sources|holds"):
        changed.start()
    changed.close()
    assert library.info("tale").done == 512
    again = work(llm, library, [])
    assert again.start() == (512, 0)
    assert again.read(again.total - 512, workers=1)
    again.close()
    assert library.info("tale").state is DocumentState.READY
    library.close()


def test_in_memory_nothing_is_left(llm: LLM) -> None:
    library = Library(llm)
    one = work(llm, library, [])
    one.start()
    one.read(256, workers=1)
    one.close()
    assert library.names() == []
    assert llm.pool.allocator.used == 0


def test_a_document_that_another_process_read_is_not_read_over(llm: LLM, tmp_path: Path) -> None:
    library = Library(llm, tmp_path)
    llm.read(Text(name="t", text=TALE), output=tmp_path / "tale.octavo").close()
    before = (tmp_path / "tale.octavo").read_bytes()
    with pytest.raises(UsageError, match="document 'tale' is there already"):
        work(llm, library, [])
    assert library.info("tale").state is DocumentState.READY
    assert (tmp_path / "tale.octavo").read_bytes() == before


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [("x " * 5000, LimitError, "the context of this model ends at 4,096"), ("\ud800", TextError, "Unicode|surrogate")],
)
def test_what_cannot_be_read_leaves_no_name(llm: LLM, text: str, error: type[Exception], message: str) -> None:
    library = Library(llm)
    with pytest.raises(error, match=message):
        work(llm, library, [], text=text)
    assert library.names() == []
    with pytest.raises(UsageError, match="document name"):
        ReadingWork(llm, library, "r", "../x", [Text(name="t", text=TALE)], print)
