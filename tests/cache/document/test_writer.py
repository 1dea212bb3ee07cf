"""Writing documents: going on after kills, cuts, interrupts and a full disk; one writer at a time; nothing private."""

from __future__ import annotations

import errno
import os
import re
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from octavo.cache.document import DocumentReader, DocumentWriter, SourceText
from octavo.cache.document import writer as module
from octavo.cache.document.reader import load_file
from octavo.config.errors import DocumentError
from tests.support.documents import (
    TEXT,
    empty_state,
    fake_ids,
    flip,
    header,
    open_or_nothing,
    read_on,
    restored,
    small_layout,
    sources_of,
    write_document,
)
from tests.support.sequences import assert_same, fake_read

ROOT = Path(__file__).resolve().parents[3]


def go_on(path: Path, count: int) -> None:
    """What `read` does with a file that is there: resume, or start, and read to the end."""
    with DocumentWriter.resume(path, header()) as writer:
        if not writer.sources:
            writer.append_sources(sources_of(count), ids=fake_ids(count))
        writer.require_sources(sources_of(count))
        state = writer.fill(empty_state())
        assert state.length == writer.length
        read_on(writer, state, count)
        writer.finish(state)
        assert writer.complete


def assert_whole(path: Path, count: int) -> None:
    """The file holds `count` tokens as one undisturbed reading makes them."""
    expected = empty_state()
    fake_read(expected, count)
    reader = DocumentReader.open(path)
    assert (reader.complete, reader.dropped_bytes, reader.text(0)) == (True, 0, TEXT)
    reader.verify()
    assert_same(reader.fill(empty_state()), expected)


@contextmanager
def room_for(nbytes: int) -> Iterator[None]:
    """Files of this process can grow to `nbytes` only."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (nbytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_killed_writers_leave_a_prefix_and_are_gone_on_with(tmp_path: Path) -> None:
    """SIGKILL at random moments of real processes."""
    trials, tokens = 8, 20_000
    command = [sys.executable, "-m", "tests.support.kill_writer", str(tmp_path), str(trials), str(tokens), "0"]
    subprocess.run(command, cwd=ROOT, check=True, timeout=120)
    lengths = set()
    for trial in range(trials):
        path = tmp_path / f"{trial}.octavo"
        reader = open_or_nothing(path)
        lengths.add(0 if reader is None else reader.length)
        if reader is not None:
            assert reader.tokens.tolist() == fake_ids(reader.length).tolist()
            reader.verify()
        go_on(path, tokens)
        assert_whole(path, tokens)
    assert len(lengths) > 2
    assert {n for n in lengths if n % 4096} <= {tokens}


def test_cut_anywhere_it_is_gone_on_with(tmp_path: Path) -> None:
    path, cut = tmp_path / "a.octavo", tmp_path / "cut.octavo"
    write_document(path, 9000)
    whole = path.read_bytes()
    for length in [0, 5, 64, *np.random.default_rng(2).integers(0, len(whole), 25).tolist()]:
        cut.write_bytes(whole[:length])
        go_on(cut, 9000)
        assert_whole(cut, 9000)


def test_reading_in_sessions_gives_what_one_session_gives(tmp_path: Path) -> None:
    """Stopped in the middle of a page each time; the last pages of each session are replaced by the next."""
    path = tmp_path / "a.octavo"
    with DocumentWriter.create(path, header()) as writer:
        writer.append_sources(sources_of(9000), ids=fake_ids(9000))
    for stop in (512, 3584, 5632, 8704, 9000):
        with DocumentWriter.resume(path, header()) as writer:
            state = writer.fill(empty_state())
            read_on(writer, state, stop)
            writer.finish(state)
            assert (writer.length, writer.complete) == (stop, stop == 9000)
        assert DocumentReader.open(path).length == stop
    assert_whole(path, 9000)


def test_more_texts_can_be_added_to_a_whole_document(tmp_path: Path) -> None:
    path = tmp_path / "a.octavo"
    write_document(path, 5120)
    more = SourceText(name="second.txt", text="zwei", first_token=5120, tokens=880)
    with DocumentWriter.resume(path, header()) as writer:
        state = writer.fill(empty_state())
        writer.append_sources([more], ids=fake_ids(6000)[5120:])
        read_on(writer, state, 6000)
        writer.finish(state)
    reader = DocumentReader.open(path)
    assert [source.name for source in reader.sources] == ["snow.txt", "second.txt"]
    assert (reader.length, reader.complete, reader.text(1)) == (6000, True, "zwei")
    assert_whole(path, 6000)


def test_a_reader_is_not_disturbed_by_a_writer(tmp_path: Path) -> None:
    path = tmp_path / "a.octavo"
    write_document(path, 5000, planned=9000)
    early = DocumentReader.open(path)
    go_on(path, 9000)
    expected = empty_state()
    fake_read(expected, 5000)
    assert_same(early.fill(empty_state()), expected)
    early.verify()


def test_a_half_written_file_can_be_read_while_it_grows(tmp_path: Path) -> None:
    path, state = tmp_path / "a.octavo", empty_state()
    with DocumentWriter.create(path, header()) as writer:
        writer.append_sources(sources_of(9000), ids=fake_ids(9000))
        read_on(writer, state, 8500)
        assert writer.length == DocumentReader.open(path).length == 8192


def test_nothing_new_writes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.octavo"
    state = write_document(path, 5000)
    before = path.read_bytes()
    with DocumentWriter.resume(path, header()) as writer:
        twin = writer.fill(empty_state())
        writer.append(twin)
        writer.finish(twin)
    assert path.read_bytes() == before
    assert_same(restored(path), state)
    writer.close()


def test_large_chunks_are_written_in_pieces_that_count_together(tmp_path: Path) -> None:
    """Chunks of 12,288 tokens: the marks in between were never seen, so three records of pages share one snapshot."""
    path = tmp_path / "a.octavo"
    state = write_document(path, 13_000, step=12_288)
    reader = DocumentReader.open(path)
    assert [(entry.stop, entry.resumes) for entry in reader.catalog.pages] == [(4096, 0), (8192, 0), (12288, 1)]
    assert_same(reader.fill(empty_state()), state)


def test_size_is_pages_tails_and_texts(tmp_path: Path) -> None:
    """Little is added to what the cache itself holds."""
    path, layout = tmp_path / "a.octavo", small_layout()
    write_document(path, 40_000, layout=layout)
    records = 40_000 // 4096 + 1
    held = layout.paged_bytes(40_000) + 4 * 40_000 + records * layout.fixed_bytes.total
    assert held - records * layout.fixed_bytes.total < path.stat().st_size < held + 6000 * records


def test_memory_that_was_never_written_does_not_reach_the_file(tmp_path: Path) -> None:
    path, state = tmp_path / "a.octavo", empty_state()
    state.reserve(2048)
    for key in state.pool.specs:
        for page in state.pages:
            state.pool.locate(page)[0].rows(key)[:] = 0xA5  # what was in this memory before
    ids = fake_read(state, 300)
    with DocumentWriter.create(path, header()) as writer:
        writer.append_sources(sources_of(300), ids=ids)
        writer.finish(state)
    rows = restored(path).read_pages(0, 2)
    for key, spec in state.pool.specs.items():
        assert not rows[key][300 // spec.ratio :].any()
        assert rows[key][: 300 // spec.ratio].any()


# -- refusals ----------------------------------------------------------------------------------------------------------


def test_create_never_overwrites(tmp_path: Path) -> None:
    path = tmp_path / "a.octavo"
    path.write_text("mine")
    with pytest.raises(DocumentError, match="a.octavo: exists already"):
        DocumentWriter.create(path, header())
    with pytest.raises(DocumentError, match="not an .octavo document"):
        DocumentWriter.resume(path, header())
    assert path.read_text() == "mine"


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match="none/a.octavo: cannot be opened for writing: No such file"):
        DocumentWriter.create(tmp_path / "none" / "a.octavo", header())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_what_is_no_regular_file_is_refused() -> None:
    with pytest.raises(DocumentError, match="/dev/full: is no regular file"):
        DocumentWriter.resume("/dev/full", header())


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "a.octavo"
    with DocumentWriter.create(path, header()) as writer:
        writer.append_sources(sources_of(300), ids=fake_ids(300))
        with pytest.raises(DocumentError, match="another process is writing it"):
            DocumentWriter.resume(path, header())
    DocumentWriter.resume(path, header()).close()


@pytest.mark.parametrize("change", [{"model_fingerprint": "c" * 64}, {"layout": small_layout(main="bf16")}])
def test_another_model_cannot_go_on(tmp_path: Path, change: dict) -> None:
    path = tmp_path / "a.octavo"
    write_document(path, 300)
    before = path.read_bytes()
    with pytest.raises(DocumentError, match="another model|main = fp32"):
        DocumentWriter.resume(path, header(**change))
    assert path.read_bytes() == before
    DocumentWriter.resume(path, header()).close()  # the lock was given up


def test_a_damaged_document_is_not_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "a.octavo"
    write_document(path, 9000)
    entry = DocumentReader.open(path).catalog.pages[0]
    flip(path, entry.offset + entry.nbytes // 2)
    before = path.read_bytes()
    with pytest.raises(DocumentError, match=r"record 1 \(pages, tokens 0 to 4,096\) .* is damaged"):
        DocumentWriter.resume(path, header())
    assert path.read_bytes() == before


@pytest.mark.parametrize(("given", "message"), [
    ([], "also holds snow.txt"),
    ([SourceText(name="rain.txt", text="drip", first_token=1, tokens=299)], "another text at the place of rain.txt"),
    ([*sources_of(300), SourceText(name="b", text="b", first_token=300, tokens=1)], "does not hold b"),
])  # fmt: skip
def test_other_texts_are_named(tmp_path: Path, given: list[SourceText], message: str) -> None:
    write_document(tmp_path / "a.octavo", 300)
    with (
        DocumentWriter.resume(tmp_path / "a.octavo", header()) as writer,
        pytest.raises(DocumentError, match=message),
    ):
        writer.require_sources(given)


def test_the_same_text_under_another_name_is_the_same(tmp_path: Path) -> None:
    write_document(tmp_path / "a.octavo", 300)
    with DocumentWriter.resume(tmp_path / "a.octavo", header()) as writer:
        writer.require_sources(sources_of(300, name="other.txt"))


def test_a_state_of_other_tokens_is_refused(tmp_path: Path) -> None:
    state = empty_state()
    fake_read(state, 300, seed=5)
    with DocumentWriter.create(tmp_path / "a.octavo", header()) as writer:
        writer.append_sources(sources_of(300), ids=fake_ids(300))
        with pytest.raises(ValueError, match="tokens from 0 on are not those"):
            writer.finish(state)


def test_a_state_behind_the_file_is_refused(tmp_path: Path) -> None:
    write_document(tmp_path / "a.octavo", 5000)
    with (
        DocumentWriter.resume(tmp_path / "a.octavo", header()) as writer,
        pytest.raises(ValueError, match="has read 0 tokens, the file holds 4096"),
    ):
        writer.append(empty_state())


# -- failures ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("room", [300, 2000, 100_000, 330_000, 640_000, 700_000])
def test_a_full_disk_keeps_what_was_read(tmp_path: Path, room: int) -> None:
    """At every stage of the file; with room again the same writing goes on."""
    path, tokens = tmp_path / "a.octavo", 9000
    message = rf"{re.escape(str(path))}: no room for the [\d,]+ bytes of .*[\d,]+ tokens are kept"
    ids = fake_ids(tokens)

    def write() -> None:
        with DocumentWriter.create(path, header()) as writer:
            writer.append_sources(sources_of(tokens), ids=ids)
            state = empty_state()
            read_on(writer, state, tokens)
            writer.finish(state)

    with room_for(room), pytest.raises(DocumentError, match=message):
        write()
    if path.exists():
        assert path.stat().st_size <= room
        go_on(path, tokens)
        assert_whole(path, tokens)
    else:
        assert room == 300


def test_a_disk_still_full_is_named_when_a_head_is_completed(tmp_path: Path) -> None:
    path, head = tmp_path / "a.octavo", header().to_bytes()
    path.write_bytes(head[:100])
    with room_for(200), pytest.raises(DocumentError, match=r"a\.octavo: no room for the [\d,]+ bytes of the head"):
        DocumentWriter.resume(path, header())
    go_on(path, 300)
    assert_whole(path, 300)


def test_a_full_disk_leaves_the_writer_usable(tmp_path: Path) -> None:
    path, state = tmp_path / "a.octavo", empty_state()
    with DocumentWriter.create(path, header()) as writer:
        writer.append_sources(sources_of(9000), ids=fake_ids(9000))
        read_on(writer, state, 8000)
        size = path.stat().st_size
        fake_read(state, 1000)
        message = "tokens 4,096 to 8,192 .*; 4,096 tokens are kept"
        with room_for(size + 1000), pytest.raises(DocumentError, match=message):
            writer.append(state)
        assert path.stat().st_size == size
        writer.finish(state)
    assert_whole(path, 9000)


@pytest.mark.parametrize("after", range(0, 40, 3))
def test_an_interrupt_while_writing_keeps_what_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """Ctrl-C after any number of pieces, in chunks that take several records; then everything is finished."""
    path, state, tokens = tmp_path / "a.octavo", empty_state(), 9000
    ids, left = fake_ids(tokens), [after]

    def write(file: int, pieces: list) -> None:
        for piece in pieces:
            if left[0] == 0:
                left[0] = -1
                raise KeyboardInterrupt
            left[0] -= 1
            os.write(file, piece)

    with DocumentWriter.create(path, header()) as writer:
        writer.append_sources(sources_of(tokens), ids=ids)
        monkeypatch.setattr(module, "_write_all", write)
        interrupted = 0
        for count in (8192, 808):
            fake_read(state, count, step=8192)
            try:
                writer.append(state)
                writer.finish(state)
            except KeyboardInterrupt:
                interrupted += 1
                writer.finish(state)
        assert interrupted == 1
    reader = DocumentReader.open(path)
    reader.verify()
    assert_same(reader.fill(empty_state()), state)


def test_an_index_that_does_not_fit_leaves_the_document(tmp_path: Path) -> None:
    path, state = tmp_path / "a.octavo", empty_state()
    writer = DocumentWriter.create(path, header())
    writer.append_sources(sources_of(300), ids=fake_ids(300))
    fake_read(state, 300)
    writer.finish(state)
    size = path.stat().st_size
    with room_for(size + 10), pytest.raises(DocumentError, match="no room for the .* bytes of the index"):
        writer.close()
    assert path.stat().st_size == size
    assert_whole(path, 300)
    DocumentWriter.resume(path, header()).close()
    assert path.stat().st_size > size


def test_the_first_failure_is_the_one_that_is_seen(tmp_path: Path) -> None:
    """No room for the pages, and then none for the index: the pages are named."""
    path, state, ids = tmp_path / "a.octavo", empty_state(), fake_ids(300)
    fake_read(state, 300)

    def write() -> None:
        with DocumentWriter.create(path, header()) as writer:
            writer.append_sources(sources_of(300), ids=ids)
            resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 10, -1))
            writer.finish(state)

    with room_for(1 << 30), pytest.raises(DocumentError, match="bytes of tokens 0 to 300 .*; 0 tokens are kept"):
        write()
    go_on(path, 300)
    assert_whole(path, 300)


def test_an_interrupt_between_records_drops_pages_that_no_tails_follow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, state = tmp_path / "a.octavo", empty_state()
    fake_read(state, 8192, step=8192)
    sections, calls = DocumentWriter._page_sections, []

    def interrupted(self: DocumentWriter, *args: int) -> dict:
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return sections(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(DocumentWriter, "_page_sections", interrupted)
    with DocumentWriter.create(path, header()) as writer:
        writer.append_sources(sources_of(8192), ids=fake_ids(8192))
        with pytest.raises(KeyboardInterrupt):
            writer.append(state)
    reader = DocumentReader(path, *load_file(path))
    assert (reader.length, reader.catalog.closed, len(reader.planned_tokens)) == (0, True, 8192)
    go_on(path, 8192)
    assert_whole(path, 8192)


@pytest.mark.parametrize(("call", "message"), [("_write_all", "writing tokens 0 to 300 failed"), ("_sync", "flushing")])
def test_other_failures_of_the_disk_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, message: str
) -> None:
    path, state = tmp_path / "a.octavo", empty_state()
    fake_read(state, 300)

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with DocumentWriter.create(path, header()) as writer:
        writer.append_sources(sources_of(300), ids=fake_ids(300))
        with monkeypatch.context() as patch:
            patch.setattr(module, call, fail)
            with pytest.raises(DocumentError, match=f"a.octavo: {message}.*Input/output error"):
                writer.finish(state)
        writer.finish(state)
    assert_whole(path, 300)
