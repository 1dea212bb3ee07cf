"""Kept beginnings: the same logits as reading anew, what is shared with whom, and what is given up first."""

from __future__ import annotations

from contextlib import closing

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from octavo.cache.state import SequenceState
from octavo.engine.llm import LLM
from octavo.engine.serving.prefixes import Naming, Prefixes, Trail, points, worth
from tests.support.sequences import World
from tests.support.tiny_llm import tiny_llm

CHUNK = 64


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> LLM:
    made = tiny_llm(tmp_path_factory.mktemp("model"), chunk=CHUNK)
    made.pool.first_slab()
    return made


@pytest.fixture(scope="module")
def world() -> World:
    made = World(slab_tokens=64 * 256)
    made.pool.first_slab()
    return made


def some_ids(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(3, 60, count).astype(np.int32)


def read(llm: LLM, ids: np.ndarray) -> SequenceState:
    state = llm.new_state()
    llm.runner.read(ids, state)
    return state


def go_on(llm: LLM, state: SequenceState, ids: np.ndarray) -> Tensor:
    """Logits of the last row and of some decoded tokens behind it."""
    rows = [llm.runner.read_last(ids[state.length :], state).logits.clone()]
    for _ in range(5):
        rows.append(llm.runner.step(np.array([int(rows[-1].argmax())]), state).logits.clone())
    return torch.cat(rows)


def walk(world: World, prefixes: Prefixes, ids: np.ndarray, at: tuple[int, ...], root: str = "") -> None:
    """Read `ids` and keep a fork at each of the lengths; the reading state is closed."""
    with closing(world.new_state()) as state:
        for stop in at:
            world.read(ids[state.length : stop], state)
            prefixes.add(root, state)


def lengths(prefixes: Prefixes, ids: np.ndarray) -> list[int]:
    """Lengths of all kept beginnings of `ids`, found the way a job finds them."""
    found, most = [], len(ids)
    while (state := prefixes.find("", ids, most=most)) is not None:
        found.append(state.length)
        most = state.length - 1
        state.close()
    return found[::-1]


# -- exactness ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [64, 320, 512])
def test_a_hit_goes_on_bit_by_bit_as_a_cold_reading(llm: LLM, at: int) -> None:
    free, ids, prefixes = llm.pool.allocator.free, some_ids(700), Prefixes(chunk=CHUNK)
    with closing(llm.new_state()) as cold:
        wanted = go_on(llm, cold, ids)
    with closing(read(llm, ids[:at])) as first:
        prefixes.add("", first)
        other = np.concatenate((ids[:at], some_ids(200, seed=9)))
        go_on(llm, first, other)  # the first reader goes its own way, into the shared page too
    for _ in range(2):
        hit = prefixes.find("", ids, most=len(ids) - 1)
        assert hit is not None
        assert hit.length == at
        with closing(hit):
            hit.check_integrity()
            assert torch.equal(go_on(llm, hit, ids), wanted)
    prefixes.check_integrity()
    prefixes.clear()
    assert llm.pool.allocator.free == free


def test_a_hit_behind_a_document_goes_on_bit_by_bit(llm: LLM) -> None:
    free, book, asked = llm.pool.allocator.free, some_ids(333, seed=3), some_ids(300, seed=4)
    ids, prefixes = np.concatenate((book, asked)), Prefixes(chunk=CHUNK)
    with closing(read(llm, book)) as document:
        with closing(document.fork()) as cold:
            wanted = go_on(llm, cold, ids)
        with closing(document.fork()) as first:
            llm.runner.read(ids[333:512], first)
            prefixes.add("book", first, base=333)
        assert prefixes.find("", ids, base=333, most=600) is None
        assert prefixes.find("book", ids, most=600) is None
        hit = prefixes.find("book", ids, base=333, most=600)
        assert hit is not None
        with closing(hit):
            assert torch.equal(go_on(llm, hit, ids), wanted)
        assert prefixes.hit_tokens == 512 - 333
    prefixes.clear("book")
    assert llm.pool.allocator.free == free


# -- finding -----------------------------------------------------------------------------------------------------------


def test_the_longest_beginning_up_to_a_bound_is_found(world: World) -> None:
    prefixes, ids = Prefixes(chunk=CHUNK), some_ids(600)
    walk(world, prefixes, ids, (64, 128, 256, 512))
    other = ids.copy()
    other[300] += 1
    for asked, most, length in [
        (ids, 600, 512), (ids, 512, 512), (ids, 511, 256), (ids, 64, 64), (ids, 63, None), (ids, 0, None),
        (other, 600, 256), (ids[:200], 600, 128), (ids[1:], 599, None),
    ]:  # fmt: skip
        found = prefixes.find("", asked, most=most)
        assert (None if found is None else found.length) == length
        if found is not None:
            found.close()
    assert (prefixes.queries, prefixes.hits, prefixes.hit_tokens) == (9, 6, 512 + 512 + 256 + 64 + 256 + 128)
    prefixes.clear()


def test_nothing_is_shared_across_roots(world: World) -> None:
    prefixes, ids = Prefixes(chunk=CHUNK), some_ids(100)
    walk(world, prefixes, ids, (64,), root="alice")
    assert prefixes.find("bob", ids, most=99) is None
    walk(world, prefixes, ids, (64,), root="bob")
    assert len(prefixes) == 2
    prefixes.clear("alice")
    assert prefixes.find("alice", ids, most=99) is None
    found = prefixes.find("bob", ids, most=99)
    assert found is not None
    found.close()
    prefixes.clear()


def test_equal_digests_of_other_tokens_are_no_hit(world: World) -> None:
    prefixes, ids = Prefixes(chunk=CHUNK), some_ids(64)
    walk(world, prefixes, ids, (64,))
    ((family, (kept,)),) = [(f, m.values()) for f, m in prefixes._families.items()]
    other = some_ids(64, seed=1)
    prefixes._families[family] = {next(iter(Trail.of("", other, base=0, chunk=CHUNK))): kept}  # a collision
    assert prefixes.find("", other, most=64) is None
    kept.state.close()


def test_an_equal_state_is_kept_once(world: World) -> None:
    prefixes, ids = Prefixes(chunk=CHUNK), some_ids(256)
    walk(world, prefixes, ids, (256,))
    pages = prefixes.pages()
    walk(world, prefixes, ids, (256,))
    assert (len(prefixes), prefixes.pages()) == (1, pages)
    prefixes.clear()


@pytest.mark.parametrize(("length", "base"), [(63, 0), (65, 0), (64, 64), (0, 0)])
def test_only_states_at_multiples_behind_the_base_are_kept(world: World, length: int, base: int) -> None:
    with closing(world.new_state()) as state:
        if length:
            world.read(some_ids(length), state)
        with pytest.raises(ValueError, match=f"has {length} tokens; a multiple of 64 above {base}"):
            Prefixes(chunk=64).add("", state, base=base)


def test_a_trail_names_root_base_and_every_token() -> None:
    ids = some_ids(200)
    keys = list(Trail.of("r", ids, base=10, chunk=64))
    assert [length for length, _ in keys] == [192, 128, 64]
    before = np.concatenate((some_ids(10, seed=5), ids[10:]))
    assert list(Trail.of("r", before, base=10, chunk=64)) == keys
    late = ids.copy()
    late[150] += 1
    assert list(Trail.of("r", late, base=10, chunk=64))[1:] == keys[1:]
    for other in (Trail.of("s", ids, base=10, chunk=64), Trail.of("r", ids, base=11, chunk=64)):
        assert not set(other) & set(keys)
    late[11] += 1
    assert not set(Trail.of("r", late, base=10, chunk=64)) & set(keys)


@pytest.mark.parametrize("base", [0, 10, 64, 100])
def test_a_trail_that_grows_is_that_of_the_beginning(base: int) -> None:
    ids = np.random.default_rng(base).integers(0, 400, 700).astype(np.int32)
    growing = Naming("r", ids, base=base, chunk=64)
    for length in (base, base + 1, 128, 130, 320, 320, 699, 700, 500, 64 + base):
        assert growing.upto(length) == Trail.of("r", ids[:length], base=base, chunk=64), length


# -- pages -------------------------------------------------------------------------------------------------------------


def test_only_pages_that_nobody_else_holds_count(world: World) -> None:
    free, prefixes, ids = world.pool.allocator.free, Prefixes(), some_ids(1024)
    with closing(world.new_state()) as running:
        for stop in (256, 512, 1024):
            world.read(ids[running.length : stop], running)
            prefixes.add("", running)
        assert prefixes.pages() == 0
        assert prefixes.evict(1) == 0  # giving up anything would free nothing
        assert (len(prefixes), prefixes.evicted) == (3, 0)
    assert prefixes.pages() == 4
    assert prefixes.nbytes > 4 * world.layout.page_bytes
    assert world.pool.allocator.free == free - 4
    hit = prefixes.find("", ids, most=512)
    assert hit is not None
    assert prefixes.pages() == 2
    assert prefixes.evict(10) == 2  # the two last pages of 1024; the rest is in use
    assert lengths(prefixes, ids) == [256, 512]
    hit.close()
    assert prefixes.evict(1) == 1
    assert prefixes.evict(1) == 1
    assert (len(prefixes), prefixes.pages(), prefixes.nbytes, world.pool.allocator.free) == (0, 0, 0, free)


def test_eviction_stops_when_enough_is_free(world: World) -> None:
    prefixes = Prefixes()
    texts = [some_ids(256, seed=n) for n in range(6)]
    for ids in texts:
        walk(world, prefixes, ids, (256,))
    free = world.pool.allocator.free
    assert prefixes.evict(4) == 4
    assert (world.pool.allocator.free, len(prefixes), prefixes.evicted) == (free + 4, 2, 4)
    prefixes.clear()


def test_a_short_beginning_of_many_outlives_long_ones_of_one(world: World) -> None:
    prefixes, system = Prefixes(), some_ids(256)
    walk(world, prefixes, system, (256,))
    for n in range(8):
        found = prefixes.find("", system, most=256)
        assert found is not None
        found.close()
        walk(world, prefixes, some_ids(1024, seed=n + 1), (1024,))
        prefixes.evict(4)
        assert lengths(prefixes, system) == [256]  # another hit
    prefixes.clear()


def test_the_unused_grow_old(world: World) -> None:
    """What was popular is given up in the end when nobody asks for it any more."""
    prefixes, old = Prefixes(), some_ids(256)
    walk(world, prefixes, old, (256,))
    for _ in range(30):
        found = prefixes.find("", old, most=256)
        assert found is not None
        found.close()
    rounds = 0
    while any(kept.key[0] == 256 for kept in prefixes._all()):
        rounds += 1
        assert rounds < 40
        walk(world, prefixes, some_ids(512, seed=rounds), (512,))
        prefixes.evict(1)
    assert rounds > 8
    prefixes.clear()


def test_of_equal_value_what_was_used_last_stays(world: World) -> None:
    prefixes = Prefixes()
    first, second = some_ids(256, seed=1), some_ids(256, seed=2)
    for ids in (first, second, some_ids(256, seed=3)):
        walk(world, prefixes, ids, (256,))
    for ids in (first, second):
        assert lengths(prefixes, ids) == [256]
    prefixes.evict(1)
    assert lengths(prefixes, first) == lengths(prefixes, second) == [256]
    prefixes.clear()


def test_worth_grows_with_cost_uses_and_clock_and_falls_with_size() -> None:
    base = worth(1.0, 2, 100, 10)
    assert base == 31
    assert worth(2.0, 2, 100, 10) == base + 1
    assert worth(1.0, 3, 100, 10) > base > worth(1.0, 2, 100, 11)
    assert worth(1.0, 15, 1, 1) == worth(1.0, 900, 1, 1) == 17


def test_shrinking_counts_tails_and_ids_too(world: World) -> None:
    free, prefixes, ids = world.pool.allocator.free, Prefixes(), some_ids(1024)
    walk(world, prefixes, ids, (256, 512, 768, 1024))
    whole = prefixes.nbytes
    prefixes.shrink(whole)
    assert len(prefixes) == 4
    prefixes.shrink(whole // 2)
    assert 0 < len(prefixes) < 4
    assert prefixes.nbytes <= whole // 2
    prefixes.shrink(0)
    assert (len(prefixes), world.pool.allocator.free) == (0, free)


# -- points ------------------------------------------------------------------------------------------------------------


@given(st.integers(0, 200_000), st.integers(0, 1_100_000), st.sampled_from([1, 64, 100, 256, 1024, 8192]))
def test_points_are_few_multiples_in_the_stretch(start: int, count: int, chunk: int) -> None:
    found = points(start, start + count, chunk=chunk)
    assert list(found) == sorted(set(found))
    assert all(length % chunk == 0 and start < length <= start + count for length in found)
    assert len(found) <= np.log2(max(count + chunk, 1) / chunk) + count / 4096 + 3
    last = (start + count) // chunk * chunk
    assert last <= start or found[-1] == last


@pytest.mark.parametrize(
    ("start", "stop", "found"),
    [
        (0, 255, ()),
        (0, 300, (256,)),
        (0, 700, (256, 512)),
        (0, 9000, (256, 512, 1024, 2048, 4096, 8192, 8960)),
        (333, 1000, (512, 768)),
        (4096, 4096, ()),
        (4096, 8192, (4352, 4608, 5120, 6144, 8192)),
    ],
)
def test_points_of_some_prompts(start: int, stop: int, found: tuple[int, ...]) -> None:
    assert points(start, stop, chunk=256) == found
