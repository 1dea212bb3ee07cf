"""Documents by name: which names, what a folder holds, removal beside readers."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from octavo.cache.document import DocumentWriter
from octavo.config.errors import BusyError, DocumentError, MissingError, UsageError
from octavo.engine.document import Document
from octavo.engine.folding import check_sources, header_of
from octavo.engine.llm import LLM
from octavo.engine.serving.library import DocumentState, Library, check_name
from octavo.engine.texts import Text, Texts
from tests.support.tiny_llm import STORY, tiny_llm


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> LLM:
    return tiny_llm(tmp_path_factory.mktemp("model"), chunk=256)


@contextmanager
def being_opened(library: Library, name: str) -> Iterator[Executor]:
    """Inside, a thread is at opening a document's file; what may wait for it is run by the executor that is given."""
    begun, go, opened = threading.Event(), threading.Event(), library.llm.open

    def slow(path: Path) -> Document:
        begun.set()
        assert go.wait(30)
        return opened(path)

    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(2) as threads:
        patch.setattr(library.llm, "open", slow)
        opening = threads.submit(library.open, name)
        try:
            assert begun.wait(10)
            yield threads
        finally:
            go.set()
            library.leave(opening.result(10)[0])


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "a/b", "a\\b", "/etc/passwd", ".hidden", "-x", "a b", "a\0b", "a\n", "ü", "x" * 101]
)
def test_names_that_no_document_has(llm: LLM, tmp_path: Path, name: str) -> None:
    library = Library(llm, tmp_path)
    for call in (library.info, library.open, library.remove, check_name):
        with pytest.raises(UsageError, match="document name"):
            call(name)
    with pytest.raises(UsageError, match="document name"):
        library.begin(name, tokens=1, files=("t",))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a", "A-1_b.txt", "0", "x" * 100])
def test_names_that_one_may_have(name: str) -> None:
    assert check_name(name) == name


def test_what_a_folder_holds(llm: LLM, tmp_path: Path) -> None:
    llm.read(Text(name="story.txt", text=STORY), output=tmp_path / "good.octavo").close()
    (tmp_path / "bad.octavo").write_bytes(b"no document")
    (tmp_path / "notes.txt").write_text("not ours")
    library = Library(llm, tmp_path)
    assert library.names() == ["bad", "good"]
    good, bad = library.info("good"), library.info("bad")
    assert (good.state, good.files, good.done) == (DocumentState.READY, ("story.txt",), good.tokens)
    assert bad.state is DocumentState.FAILED
    assert bad.error
    with pytest.raises(DocumentError):
        library.open("bad")
    with pytest.raises(MissingError, match="there is no document 'none'"):
        library.open("none")
    assert library.text("good", 4, 10) == STORY[4:10]
    with pytest.raises(UsageError, match="file is 1"):
        library.text("good", 0, 1, file=1)
    with pytest.raises(UsageError, match="start is 5 and end 4"):
        library.text("good", 5, 4)
    library.close()


def test_a_file_of_another_model(llm: LLM, tmp_path: Path) -> None:
    other = tiny_llm(tmp_path / "other", seed=9, chunk=256)
    other.read(Text(name="s", text=STORY), output=tmp_path / "theirs.octavo").close()
    info = Library(llm, tmp_path).info("theirs")
    assert info.state is DocumentState.FAILED
    assert "model" in info.error


def test_removed_beside_a_reader(llm: LLM, tmp_path: Path) -> None:
    path = tmp_path / "tale.octavo"
    llm.read(Text(name="s", text=STORY), output=path).close()
    library = Library(llm, tmp_path)
    document, key = library.open("tale")
    assert library.open("tale") == (document, key)
    library.leave(document)
    library.remove("tale")
    assert not path.exists()
    with pytest.raises(MissingError):
        library.info("tale")
    assert document.ask("What?", max_tokens=2).token_ids
    llm.read(Text(name="s", text=STORY), output=path).close()
    again = Library(llm, tmp_path)
    assert again.open("tale")[0] is not document
    again.close()
    library.leave(document)
    with pytest.raises(UsageError, match="the document is closed"):
        document.ask("What?")


def test_while_it_is_read(llm: LLM) -> None:
    library = Library(llm)
    assert library.begin("tale", tokens=10, files=("t",)) is None
    library.progress("tale", done=4, nbytes=99)
    info = library.info("tale")
    assert (info.state, info.done, info.tokens, info.bytes) == (DocumentState.READING, 4, 10, 99)
    with pytest.raises(BusyError, match="4 of 10 tokens"):
        library.open("tale")
    with pytest.raises(BusyError):
        library.remove("tale")
    with pytest.raises(UsageError, match="being read already"):
        library.begin("tale", tokens=1, files=("t",))
    library.give_up("tale", "why not")
    assert library.names() == []
    document = llm.read(Text(name="s", text=STORY))
    library.begin("tale", tokens=len(document), files=("s",))
    library.finish("tale", document)
    assert library.pages() == len(document.state.pages) > 0
    assert library.open("tale")[1] == "tale/1"
    library.leave(document)
    library.remove("tale")
    assert llm.pool.allocator.used == 0


def test_a_folder_that_is_a_file(llm: LLM, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    with pytest.raises(DocumentError, match="cannot be used for documents"):
        Library(llm, tmp_path / "f")


def test_what_another_process_does_in_the_folder_shows(llm: LLM, tmp_path: Path) -> None:
    # Libraries share nothing but the folder, and locks belong to open files: it is as between processes.
    ours, theirs = Library(llm, tmp_path), Library(llm, tmp_path)
    assert ours.names() == []
    llm.read(Text(name="s", text=STORY), output=tmp_path / "tale.octavo").close()
    assert ours.names() == theirs.names() == ["tale"]
    assert ours.info("tale").state is DocumentState.READY
    document, key = ours.open("tale")
    theirs.remove("tale")
    assert ours.names() == []
    with pytest.raises(MissingError):
        ours.info("tale")
    assert document.ask("What?", max_tokens=2).token_ids  # who has it open keeps it
    llm.read(Text(name="s", text=STORY * 2), output=tmp_path / "tale.octavo").close()
    other, other_key = ours.open("tale")
    assert len(other) > len(document)
    assert key != other_key
    ours.leave(document)
    ours.leave(other)
    ours.close()


def test_what_another_process_writes_is_being_read(llm: LLM, tmp_path: Path) -> None:
    ours = Library(llm, tmp_path)
    path = tmp_path / "tale.octavo"
    writer = DocumentWriter.create(path, header_of(llm))
    assert ours.info("tale").state is DocumentState.READING
    texts = Texts.encode([Text(name="s", text=STORY * 20)], llm.tokenizer)
    state = llm.new_state()
    llm.runner.read(texts.ids[:256], state)
    check_sources(writer, texts)
    writer.finish(state)
    info = ours.info("tale")
    assert (info.state, info.done, info.tokens) == (DocumentState.READING, 256, len(texts.ids))
    for call in (ours.open, ours.remove):
        with pytest.raises(BusyError, match="is being read"):
            call("tale")
    with pytest.raises(UsageError, match="is being read already"):
        ours.begin("tale", tokens=1, files=("s",))
    writer.close()
    info = ours.info("tale")
    assert (info.state, info.done) == (DocumentState.PART, 256)
    with DocumentWriter.resume(path, header_of(llm)):  # someone goes on with it
        assert ours.info("tale").state is DocumentState.READING
    assert ours.info("tale").state is DocumentState.PART
    state.close()
    path.unlink()
    assert ours.names() == []


def test_where_documents_hold_no_pages_nobody_waits_to_learn_it(llm: LLM, tmp_path: Path) -> None:
    """A lane asks under the service's lock."""
    llm.read(Text(name="s", text=STORY), output=tmp_path / "tale.octavo").close()
    library = Library(llm, tmp_path)
    with being_opened(library, "tale") as threads:
        assert threads.submit(library.idle).result(10) == Counter()
        assert threads.submit(library.make_room, 1).result(10) == 0
    library.close()
