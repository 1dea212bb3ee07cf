"""One state in a file: every row comes back, files are documents, failures leave nothing behind."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from octavo.cache.document import DocumentReader
from octavo.cache.pool import PagePool
from octavo.cache.state import SequenceState
from octavo.cache.tails import empty_tails
from octavo.config.errors import DocumentError, LimitError
from octavo.engine.serving.stored import fill, most_bytes, named, read_stored, unlink, write_stored
from tests.support.documents import empty_state, header, small_layout
from tests.support.sequences import fake_read

LONG = 64 * 256 + 700  # two records, the last page not full


def state_of(count: int) -> SequenceState:
    state = empty_state()
    fake_read(state, count, step=256)
    return state


def write(path: Path, state: SequenceState, base: int = 0, root: str = "r") -> int:
    return write_stored(path, path.with_suffix(".part"), header(), root, base, state, flush=True)


def same(a: SequenceState, b: SequenceState) -> bool:
    """Tokens, tails and all rows of whole entries."""
    one, two = a.snapshot(), b.snapshot()
    tails = one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)
    rows, others = (each.read_pages(0, len(each.pages)) for each in (a, b))
    made = {key: a.length // spec.ratio for key, spec in a.pool.specs.items()}
    filled = all(torch.equal(rows[key][:count], others[key][:count]) for key, count in made.items())
    return np.array_equal(a.tokens, b.tokens) and tails and filled


@pytest.mark.parametrize("copied", [False, True])
@pytest.mark.parametrize("count", [1, 256, 300, LONG])
def test_every_row_comes_back(tmp_path: Path, count: int, copied: bool) -> None:
    state, path = state_of(count), tmp_path / "a"
    nbytes = write(path, state)
    assert nbytes == path.stat().st_size <= most_bytes(state, "r", 0) <= nbytes + 64_000
    target = empty_state()
    filled = fill(read_stored(path, header()), target, copied=copied)
    assert filled is target
    filled.check_integrity()
    assert same(filled, state)
    assert (target.pool.adopted_bytes == 0) == copied
    unlink(path)
    assert same(filled, state)
    fake_read(filled, 300, step=256)
    filled.check_integrity()
    filled.close()
    assert target.pool.adopted_bytes == 0
    assert target.pool.allocator.free == target.pool.allocator.total - -(-count // 256)  # adopted numbers are retired


@pytest.mark.parametrize("base", [256, 300, 511])
def test_pages_before_the_base_are_the_documents(tmp_path: Path, base: int) -> None:
    state, path = state_of(1000), tmp_path / "a"
    write(path, state, base)
    assert path.stat().st_size < most_bytes(state, "r", 0) - state.layout.page_bytes + 64_000
    stored = read_stored(path, header())
    assert (stored.root, stored.base, len(stored.tokens)) == ("r", base, 1000 - base // 256 * 256)
    document = state.fork()
    filled = fill(stored, SequenceState(state.pool, empty_tails(state.layout)), document=document)
    assert filled.pages[0] == document.pages[0]
    assert filled.pages[1] != document.pages[1]
    filled.check_integrity()
    assert same(filled, state)
    for wrong in (None, empty_state()):
        with pytest.raises(ValueError, match=f"a document of {base} tokens"):
            fill(stored, empty_state(), document=wrong)


def test_a_file_is_a_document_and_equal_states_give_equal_bytes(tmp_path: Path) -> None:
    state, root = state_of(LONG), 'name "quoted" \n ü'
    write(tmp_path / "a", state, root=root)
    torch.full((1 << 20,), 7.0)  # other rubbish in memory where rows are not made yet
    write(tmp_path / "b", state_of(LONG), root=root)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    reader = DocumentReader.open(tmp_path / "a")
    assert reader.verify() == (tmp_path / "a").stat().st_size
    assert named(reader) == (root, 0)
    assert same(reader.fill(empty_state()), state)


def test_files_of_others_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "a", state_of(256))
    for changes, what in [
        ({"model_fingerprint": "c" * 64}, "another model"),
        ({"tokenizer_fingerprint": "c" * 64}, "another tokenizer"),
        ({"layout": small_layout(margin=4)}, "margin"),
        ({"layout": small_layout(main="bf16")}, "main"),
    ]:
        with pytest.raises(DocumentError, match=what):
            read_stored(tmp_path / "a", header(**changes))


def test_no_room_in_the_pool_leaves_the_state_empty(tmp_path: Path) -> None:
    write(tmp_path / "a", state_of(1000))
    layout = small_layout()
    pool = PagePool(layout, capacity_tokens=768, fixed=True)
    pool.first_slab()
    state = SequenceState(pool, empty_tails(layout))
    with pytest.raises(LimitError, match="all 3 pages|pages are in use"):
        fill(read_stored(tmp_path / "a", header()), state, copied=True)
    assert (state.length, state.pages, pool.allocator.free, pool.adopted_bytes) == (0, [], 3, 0)
    state.check_integrity()


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a", state_of(256))
    before = (tmp_path / "a").read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write(tmp_path / "a", state_of(512))
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_bytes() == before
