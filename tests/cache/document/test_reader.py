"""Opening documents: the same state comes back, quickly, and nothing altered is used."""

from __future__ import annotations

import gc
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from octavo.cache.document import DocumentReader, DocumentWriter
from octavo.cache.document.header import parse_header
from octavo.cache.pool import PagedRows, PagePool
from octavo.cache.tails import empty_tails
from octavo.config.errors import DocumentError
from tests.support.documents import (
    TEXT,
    empty_state,
    fake_ids,
    flip,
    header,
    open_or_nothing,
    restored,
    small_layout,
    sources_of,
    write_document,
)
from tests.support.sequences import World, assert_same, fake_read, token_ids

FORMATS = [("fp64", "fp64"), ("fp32", "fp32"), ("bf16", "bf16"), ("fp8", "fp8"), ("fp8", "fp4"), ("fp4", "fp4")]


@pytest.mark.parametrize(("main", "index"), FORMATS)
@pytest.mark.parametrize("length", [1, 300, 4096, 4100, 9000])
def test_the_same_state_comes_back(tmp_path: Path, length: int, main: str, index: str) -> None:
    layout = small_layout(main=main, index=index)
    state = write_document(tmp_path / "a.octavo", length, layout=layout)
    reader = DocumentReader.open(tmp_path / "a.octavo")
    assert (reader.header, reader.length, reader.complete, reader.notice) == (header(layout), length, True, None)
    assert reader.tokens.tolist() == state.tokens.tolist()
    assert (reader.tokens.dtype, reader.dropped_bytes) == (np.int32, 0)
    pool = PagePool(layout, capacity_tokens=512)
    twin = reader.restore(pool, empty_tails(layout))
    twin.check_integrity()
    assert_same(twin, state)
    assert (twin.nbytes, pool.nbytes) == (state.nbytes, 0)
    assert reader.verify() == (tmp_path / "a.octavo").stat().st_size


def test_what_a_document_says_of_its_texts(tmp_path: Path) -> None:
    write_document(tmp_path / "a.octavo", 600)
    reader = DocumentReader.open(tmp_path / "a.octavo")
    (source,) = reader.sources
    assert (source.name, source.first_token, source.tokens, source.chars) == ("snow.txt", 1, 599, len(TEXT))
    assert reader.text(0) == TEXT


def test_a_restored_state_goes_on_like_the_one_that_was_saved(tmp_path: Path) -> None:
    """With a real model: the same bits after opening, over shared, adopted and copied pages, and after a fork."""
    world, path = World(), tmp_path / "a.octavo"
    ids, state = token_ids(4500), world.new_state()
    with DocumentWriter.create(path, header(world.layout)) as writer:
        writer.append_sources(sources_of(4500), ids=ids)
        for start in range(0, 4500, 512):
            world.step(ids[start : start + 512], state)
            writer.append(state)
        writer.finish(state)
    twin = DocumentReader.open(path).fill(world.new_state())
    fork = twin.fork()
    for other in (twin, fork):
        go_on = state.fork()
        for more in (token_ids(3, seed=1), token_ids(300, seed=2), token_ids(1, seed=3)):
            assert torch.equal(world.step(more, other), world.step(more, go_on))
        other.rollback(7)
        other.check_integrity()
        go_on.rollback(7)
        assert_same(other, go_on)


def test_the_map_lives_as_long_as_the_state(tmp_path: Path) -> None:
    path = tmp_path / "a.octavo"
    state, twin = write_document(path, 5000), restored(path)
    path.unlink()
    gc.collect()
    assert_same(twin, state)


def test_closing_a_restored_state_leaves_nothing_in_the_pool(tmp_path: Path) -> None:
    write_document(tmp_path / "a.octavo", 5000)
    state = restored(tmp_path / "a.octavo")
    pool = state.pool
    fake_read(state, 600)
    fork = state.fork()
    state.close()
    assert pool.adopted_bytes == 20 * pool.layout.page_bytes
    fork.close()
    assert (pool.adopted_bytes, pool.allocator.free) == (0, pool.allocator.total - 20)


def test_opening_takes_milliseconds_whatever_the_length(tmp_path: Path) -> None:
    """A million tokens: 256 records, closed or killed; processor time, best of several tries: the machine is shared."""
    path, layout = tmp_path / "a.octavo", small_layout(main="fp8", index="fp4")
    write_document(path, 1 << 20, layout=layout, step=4096)
    for cut in (False, True):
        if cut:
            with open(path, "r+b") as file:
                file.truncate(path.stat().st_size - 100)
        best = float("inf")
        for _ in range(8):
            state = empty_state(layout)
            start = time.process_time()
            DocumentReader.open(path).fill(state)
            best = min(best, time.process_time() - start)
            assert state.length == 1 << 20
        assert best < 0.25  # reading the records would take seconds; a busy machine, some 0.06


# -- damage ------------------------------------------------------------------------------------------------------------


def section(path: Path, number: int, name: str) -> int:
    """Place in the file of a section's first byte."""
    reader = DocumentReader.open(path)
    record = reader._record(reader.catalog.records[number])
    return record.offset + record.sections[name].offset


def test_an_altered_row_is_found_when_its_store_is_first_read(tmp_path: Path) -> None:
    path = tmp_path / "a.octavo"
    write_document(path, 9000)
    flip(path, section(path, 1, "1.index") + 777)
    reader = DocumentReader.open(path)
    state = reader.fill(empty_state())
    pool = state.pool
    assert PagedRows(pool, state.runs, (1, "main"), 2250).tile(0, 2250).shape == (1, 2250, 32)
    rows = PagedRows(pool, state.runs, (1, "index"), 2250)
    assert rows.tile(1024, 2250).shape == (1, 1226, 32)
    for read in (lambda: rows.tile(0, 1), lambda: rows.gather(torch.tensor([[[1500, 1000]]]))):
        with pytest.raises(DocumentError) as caught:
            read()
        assert "record 1 (pages, tokens 0 to 4,096) at byte" in str(caught.value)
        assert "is damaged: section '1.index' is altered" in str(caught.value)
    with pytest.raises(DocumentError, match="section '1.index' is altered"):
        reader.verify()


@pytest.mark.parametrize(("number", "name"), [(3, "tails.1.raw.main.8988"), (3, "1.main"), (0, "ids")])
def test_altered_tails_and_ids_are_found_on_opening(tmp_path: Path, number: int, name: str) -> None:
    path = tmp_path / "a.octavo"
    write_document(path, 9000)
    flip(path, section(path, number, name))
    with pytest.raises(DocumentError, match=f"record {number} .*is damaged: section '{name}' is altered"):
        DocumentReader.open(path)


def test_an_altered_text_is_found_when_it_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "a.octavo"
    write_document(path, 600)
    flip(path, section(path, 0, "text.0") + 5)
    reader = DocumentReader.open(path)
    with pytest.raises(DocumentError, match="record 0 .* section 'text.0' is altered"):
        reader.text(0)


def test_damaged_newest_tails_of_a_killed_document_fall_back(tmp_path: Path) -> None:
    """A write that the disk never finished: the record is there, its bytes are not. What came before counts."""
    path = tmp_path / "a.octavo"
    write_document(path, 9000, close=False)
    flip(path, section(path, 3, "1.main"))
    assert DocumentReader.open(path).length == 8192
    flip(path, section(path, 2, "1.main"))
    reader = DocumentReader.open(path)
    assert reader.length == 4096
    assert reader.notice == f"{path}: holds 4,096 of 9,000 tokens; read the same text into it again to go on"


def test_any_altered_byte_of_a_document_is_found(tmp_path: Path) -> None:
    """Wherever it is: on opening, or by verify; but in the last 64 bytes it only costs the walk."""
    path = tmp_path / "a.octavo"
    write_document(path, 4500)
    whole = path.read_bytes()
    places = np.random.default_rng(0).integers(0, len(whole) - 64, 150)
    for place in [*places.tolist(), 0, len(whole) - 65]:
        flip(path, place)
        with pytest.raises(DocumentError, match="a.octavo: .*(altered|damaged|not an .octavo document|must follow)"):
            DocumentReader.open(path).verify()
        flip(path, place)
    assert path.read_bytes() == whole
    DocumentReader.open(path).verify()


def test_cut_anywhere_it_opens_to_a_prefix_or_says_that_nothing_is_there(tmp_path: Path) -> None:
    path, cut = tmp_path / "a.octavo", tmp_path / "cut.octavo"
    write_document(path, 9000)
    whole = path.read_bytes()
    expected = {length: empty_state() for length in (4096, 8192, 9000)}
    for length, state in expected.items():
        fake_read(state, length)
    lengths = np.random.default_rng(1).integers(0, len(whole), 200).tolist()
    found = set()
    for length in [0, 1, 63, 64, *lengths, len(whole) - 1]:
        cut.write_bytes(whole[:length])
        reader = open_or_nothing(cut)
        found.add(0 if reader is None else reader.length)
        if reader is None:
            continue
        assert reader.complete == (reader.length == 9000)
        state = reader.fill(empty_state())
        state.check_integrity()
        reader.verify()
        if reader.length == 9000:
            assert_same(state, expected[9000])
        else:
            kept, lean = state, expected[reader.length].snapshot(lean=True)
            assert kept.tokens.tolist() == fake_ids(reader.length).tolist()
            snapshot = kept.snapshot()
            assert snapshot.keys() == lean.keys()
            assert all(torch.equal(snapshot[name], lean[name]) for name in lean)
    assert found == {0, 4096, 8192, 9000}


@pytest.mark.parametrize(("content", "message"), [
    (b"", "the file is empty"), (b"once upon a time", "not an .octavo document"),
    (b"\x89OCTAVO\n", "ends after 8 bytes, inside its head"),
])  # fmt: skip
def test_other_files(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a.octavo"
    path.write_bytes(content)
    with pytest.raises(DocumentError) as caught:
        DocumentReader.open(path)
    assert str(caught.value).startswith(f"{path}: {message}")


def test_no_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match="none.octavo: cannot be opened: No such file"):
        DocumentReader.open(tmp_path / "none.octavo")
    with pytest.raises(DocumentError, match="cannot be opened: Is a directory"):
        DocumentReader.open(tmp_path)


def test_only_the_head_and_texts_are_nothing_to_ask(tmp_path: Path) -> None:
    write_document(tmp_path / "a.octavo", 100, planned=9000, finish=False)
    with pytest.raises(DocumentError, match="nothing folded yet: reading its 9,000 tokens was cut off at the start"):
        DocumentReader.open(tmp_path / "a.octavo")


def test_a_pool_of_another_layout_is_refused(tmp_path: Path) -> None:
    write_document(tmp_path / "a.octavo", 300)
    reader = DocumentReader.open(tmp_path / "a.octavo")
    with pytest.raises(DocumentError, match="main = fp32; the cache here has bf16"):
        reader.fill(empty_state(small_layout(main="bf16")))


def test_only_an_empty_state_can_be_filled(tmp_path: Path) -> None:
    write_document(tmp_path / "a.octavo", 300)
    state = empty_state()
    fake_read(state, 3)
    with pytest.raises(ValueError, match="has read 3 tokens"):
        DocumentReader.open(tmp_path / "a.octavo").fill(state)


def test_the_map_cannot_be_written_through_the_pool(tmp_path: Path) -> None:
    path = tmp_path / "a.octavo"
    write_document(path, 5000)
    before = path.read_bytes()
    state = restored(path)
    fake_read(state, 900)
    state.rollback(3)
    fake_read(state, 900)
    assert path.read_bytes() == before
    assert parse_header(before, path)[0] == header()
