"""Both tiers behind one face: the longer one wins, a damaged file is no hit, nothing leaks."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from octavo.cache.state import SequenceState
from octavo.engine.answer import Prefix
from octavo.engine.folding import header_of
from octavo.engine.llm import LLM
from octavo.engine.serving.hits import SHELF_TOKENS, Hits
from octavo.engine.serving.shelf import Shelf
from tests.support.tiny_llm import tiny_llm


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> LLM:
    return tiny_llm(tmp_path_factory.mktemp("model"), chunk=256)


@pytest.fixture
def hits(llm: LLM, tmp_path: Path) -> Iterator[Hits]:
    shelf = Shelf(tmp_path, header_of(llm), max_bytes=2**28)
    made = Hits(llm.new_state, chunk=256, shelf=shelf)
    yield made
    made.close()
    shelf.close()
    assert llm.pool.allocator.used == 0


def ids(llm: LLM, length: int = 1600) -> np.ndarray:
    return np.random.default_rng(5).integers(3, llm.config.vocab_size, length).astype(np.int32)


def keep(llm: LLM, hits: Hits, length: int, *, root: str = "") -> None:
    state = llm.new_state()
    llm.runner.read(ids(llm)[:length], state)
    hits.add(root, state, base=0)
    state.close()


def test_memory_then_disk(llm: LLM, hits: Hits) -> None:
    assert hits.find("", ids(llm), base=0, most=1599) is None
    keep(llm, hits, 1280)
    hits.shelve("", ids(llm), base=0)
    hits.settle()
    state, where = hits.find("", ids(llm), base=0, most=1599) or pytest.fail("no hit")
    assert (state.length, where) == (1280, Prefix.MEMORY)
    state.close()
    hits.forget()
    keep(llm, hits, 512)
    state, where = hits.find("", ids(llm), base=0, most=1599) or pytest.fail("no hit")
    assert (state.length, where) == (1280, Prefix.SNAPSHOT)
    state.close()
    assert hits.find("other", ids(llm), base=0, most=1599) is None


def test_a_damaged_file_leaves_what_memory_has(llm: LLM, hits: Hits) -> None:
    keep(llm, hits, 1280)
    hits.shelve("", ids(llm), base=0)
    hits.settle()
    hits.forget()
    keep(llm, hits, 512)
    assert hits.shelf is not None
    [path] = [p for p in hits.shelf.folder.iterdir() if p.stat().st_size > 1000]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    state, where = hits.find("", ids(llm), base=0, most=1599) or pytest.fail("no hit")
    assert (state.length, where) == (512, Prefix.MEMORY)
    state.close()
    assert hits.shelf.damaged == 1
    assert not path.exists()


def test_short_prompts_are_not_shelved(llm: LLM, hits: Hits) -> None:
    keep(llm, hits, 768)
    hits.shelve("", ids(llm)[: SHELF_TOKENS - 1], base=0)
    hits.shelve("", ids(llm), base=0)
    hits.settle()
    assert hits.shelf is not None
    assert hits.shelf.files == 0


def test_room_is_made(llm: LLM, hits: Hits) -> None:
    keep(llm, hits, 1280)
    assert hits.held() == 5 == llm.pool.allocator.used
    assert hits.make_room(1) == 5
    assert hits.held() == 0 == llm.pool.allocator.used


def test_bytes_are_bounded(llm: LLM, hits: Hits) -> None:
    for length in (256, 512, 1280):
        keep(llm, hits, length)
    all_bytes = hits.memory.nbytes
    hits.shrink(all_bytes)
    assert len(hits.memory) == 3
    hits.shrink(all_bytes - 1)
    assert len(hits.memory) == 2
    hits.shrink(0)
    assert hits.memory.nbytes == 0 == llm.pool.allocator.used


def test_a_fork_that_needs_room_may_ask_for_it(
    llm: LLM, hits: Hits, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU, where a fork brings pages into the pool, which asks whoever keeps states for room."""
    keep(llm, hits, 256)
    fork, freed, found = SequenceState.fork, list[int](), list[int]()

    def hungry(state: SequenceState) -> SequenceState:
        freed.append(hits.make_room(64))
        return fork(state)

    monkeypatch.setattr(SequenceState, "fork", hungry)

    def use() -> None:
        keep(llm, hits, 512)
        monkeypatch.setattr(SequenceState, "fork", fork)
        keep(llm, hits, 1280)
        monkeypatch.setattr(SequenceState, "fork", hungry)
        hit = hits.find("", ids(llm), base=0, most=600)
        assert hit is not None
        found.append(hit[0].length)
        hit[0].close()

    thread = threading.Thread(target=use, daemon=True)
    thread.start()
    thread.join(30)
    assert not thread.is_alive(), "the lock is held by the thread that wants it"
    hits.memory.check_integrity()
    assert (freed, found) == ([1, 5], [512]), "the one that is forked stays, whatever is short"
    assert hits.held() == 2
