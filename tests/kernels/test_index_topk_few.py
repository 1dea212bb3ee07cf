"""A handful of queries by the compiled scan: a full sort's picks from keys in FP32, kept as bytes, and in parts."""

from __future__ import annotations

import ctypes
import itertools
import math
import resource
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from octavo.kernels.dispatch import Body, use
from octavo.kernels.index_topk import (
    Levels,
    index_seconds,
    index_topk,
    loops,
    packed,
    scan,
    select_topk,
    two_level_topk,
)
from octavo.kernels.index_topk.folded import folded_topk
from octavo.kernels.rows import DenseRows, Rows
from tests.kernels.test_index_topk import as_sets, draw, expected_picks
from tests.kernels.test_index_topk_levels import expected

if scan.level() == 0:
    pytest.skip("the package was built without a compiler, or for another processor", allow_module_level=True)

LEVELS = range(1, scan.level() + 1)


@pytest.fixture(params=LEVELS, ids=[scan.LEVELS[level] for level in LEVELS], autouse=True)
def at_level(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "level", lambda: request.param)
    monkeypatch.setattr(scan, "_SHARE", 8)  # threads share out a few dozen keys
    monkeypatch.setattr(scan, "_APART", 24)


def in_parts(keys: Tensor, cuts: Sequence[int] = (), *, first: int = 0, as_bytes: bool = True) -> packed.PartRows:
    """Keys [1, C, J] cut into parts, each from place `first` on of a longer array that was packed whole."""
    parts, edges = [], [0, *cuts, keys.shape[1]]
    for lo, hi in itertools.pairwise(edges):
        whole = torch.cat((torch.full((first, keys.shape[2]), 9.0), keys[0, lo:hi])).contiguous()
        held = packed.PackedKeys(len(whole), keys.shape[2]) if as_bytes else None
        if held is not None:
            scan.pack(whole, 0, len(whole), held)
        parts.append(packed.Part(whole[first:], held, first))
    return packed.PartRows(parts, keys.shape[2], torch.float32, torch.device("cpu"))


@torch.no_grad()
def picked(q: Tensor, w: Tensor, keys: Rows, *, first: int, k: int) -> Tensor:
    assert scan.fits_few(q, keys)
    return index_topk(q, w, keys, first=first, ratio=4, k=k)


@pytest.mark.parametrize("k", [1, 7, 40, 400])
@pytest.mark.parametrize(("first", "S"), [(0, 5), (3, 8), (801, 1), (1195, 6)])
@pytest.mark.parametrize("I", [1, 4, 9])
def test_ties_and_borders(first: int, S: int, k: int, I: int) -> None:
    q, w, keys = draw(1, S, (first + S) // 4 or 1, I=I, J=8, seed=k)
    wanted = expected_picks(q, w, keys, first=first, ratio=4, k=k)
    C = keys.shape[1]
    cuts = [C // 2] if C > 1 else []
    rows = DenseRows(keys), in_parts(keys), in_parts(keys, cuts), in_parts(keys, first=32), in_parts(keys, first=5)
    for each in (*rows, in_parts(keys, cuts, as_bytes=False)):
        assert as_sets(picked(q, w, each, first=first, k=k)) == wanted


@pytest.mark.parametrize("width", [8, 64])
def test_bits_of_loops_bytes_and_parts(width: int) -> None:
    """Picks come in ascending order, so that attention adds them up as it does behind the other bodies."""
    generator = torch.Generator().manual_seed(width)
    q, w = torch.randn(1, 3, 8, width, generator=generator), torch.randn(1, 3, 8, generator=generator)
    keys = torch.randn(1, 20_000, width, generator=generator)
    call = {"first": 79_990, "k": 64}
    plain = loops.loop_topk(q, w, DenseRows(keys), ratio=4, **call)
    for rows in (DenseRows(keys), in_parts(keys), in_parts(keys, (16, 4_000, 12_345), first=48)):
        assert torch.equal(picked(q, w, rows, **call), plain)


def test_keys_that_bytes_cannot_tell_apart() -> None:
    generator = torch.Generator().manual_seed(0)
    base, small = torch.randn(64, generator=generator), torch.randn(9_000, 64, generator=generator)
    keys = (base + 1e-3 * small).unsqueeze(0)
    q, w = torch.randn(1, 2, 4, 64, generator=generator), torch.ones(1, 2, 4)
    call = {"first": 35_990, "k": 32}
    assert torch.equal(picked(q, w, in_parts(keys), **call), picked(q, w, DenseRows(keys), **call))


def test_only_what_is_packed_again_changes() -> None:
    q, w, keys = draw(1, 1, 50, J=8)
    rows = in_parts(keys)
    held, values = rows.parts[0].packed, rows.parts[0].values
    assert held is not None
    assert isinstance(values, Tensor)
    before = held.bytes.copy()
    values[20:23] = 5.0
    scan.pack(values, 20, 23, held)
    assert (held.bytes != before).any()
    with use(Body.REFERENCE):
        wanted = index_topk(q, w, DenseRows(rows.tile(0, 50)), first=199, ratio=4, k=6)
    assert as_sets(picked(q, w, rows, first=199, k=6)) == as_sets(wanted)


def test_rows_in_parts() -> None:
    keys = torch.randn(1, 30, 8)
    rows = in_parts(keys, (7, 19))
    assert (rows.length, rows.width, rows.together, in_parts(keys).together) == (30, 8, False, True)
    for start, stop in ((0, 30), (7, 19), (3, 8), (12, 12), (19, 30)):
        assert torch.equal(rows.tile(start, stop), keys[:, start:stop])
    index = torch.randint(0, 30, (1, 4, 5))
    assert torch.equal(rows.gather(index), DenseRows(keys).gather(index))
    assert torch.equal(rows.coarse(4).tile(0, 7), DenseRows(keys).means(4))
    assert packed.PartRows([], 8, torch.float32, torch.device("cpu")).tile(0, 0).shape == (1, 0, 8)


@pytest.mark.parametrize("first", [301, 304, 335, 399])
def test_two_levels_where_keys_lie_apart(first: int) -> None:
    """The same picks in the same order as where they lie together."""
    q, w, keys = draw(1, 3, (first + 3) // 4, J=8, seed=first)
    call = {"first": first, "ratio": 4, "k": 9, "levels": Levels(16, 5)}
    with torch.no_grad():
        together = two_level_topk(q, w, DenseRows(keys), **call)
        apart = two_level_topk(q, w, in_parts(keys, (40,)), **call)
    assert torch.equal(together, apart)


def test_many_short_parts_take_room_for_their_keys() -> None:
    """Where pages of several sequences alternate every page is a part: room is by keys, not by parts."""
    q, w, keys = draw(1, 4, 48_000, I=2, J=8)
    above = in_parts(keys, range(16, 48_000, 16))
    call = {"first": 191_990, "ratio": 4, "k": 9, "block": 4, "best": 40}
    before = resident()
    apart = scan.few_in_blocks(q, w, DenseRows(keys), above, **call)
    grown = resident() - before
    together = scan.few_in_blocks(q, w, DenseRows(keys), in_parts(keys), **call)
    assert apart is not None
    assert together is not None
    assert torch.equal(apart, together)
    assert grown < 100e6, "3,000 parts, each with room for 8,192 keys and four queries, would be 393 MB"


def resident() -> int:
    """Bytes of memory that this process has."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


@pytest.mark.parametrize("block", [4, 16])
def test_fewer_entries_than_tokens(block: int) -> None:
    """What is not there is no coarse key; what is there behind the last one is looked into."""
    q, w, keys = draw(1, 3, 331, J=8)
    call = {"first": 3_990, "ratio": 4, "k": 9, "levels": Levels(block, 5)}
    with torch.no_grad():
        found = two_level_topk(q, w, in_parts(keys, (64,)), **call)
        plain = two_level_topk(q, w, DenseRows(keys), **call)
    assert as_sets(found) == as_sets(plain) == expected(q, w, keys, first=3_990, k=9, levels=call["levels"])


@torch.no_grad()
def test_queries_that_are_not_finite_fold_to_nothing() -> None:
    """As the body in torch does it: NaN is not passed over for the largest number beside it."""
    q, w, keys = draw(1, 3, 640, I=4, J=64)
    q[0, 0, 1, 5], q[0, 1, 2, 63], q[0, 2, 0, 0] = math.nan, math.inf, -math.inf
    w = w.abs() + 1
    seen = torch.tensor([600, 600, 640])
    compiled = folded_topk(q, w, DenseRows(keys), seen, 20)
    with use(Body.REFERENCE):
        plain = folded_topk(q, w, DenseRows(keys), seen, 20)
    assert as_sets(compiled) == as_sets(plain) == [[set(range(20))] * 3]


@torch.no_grad()
def test_coarse_keys_that_lie_nowhere_are_read_in_four_bits() -> None:
    q, w, keys = draw(1, 20, 640, J=8)
    parts = in_parts(keys, (320,))

    def none(a: int, b: int) -> Tensor:
        raise AssertionError(f"keys {a} to {b} were asked for")

    made = [packed.Part(packed.Made(len(part.values), none), part.packed, part.first) for part in parts.parts]
    rows = packed.PartRows(made, 8, torch.float32, torch.device("cpu"))
    assert (rows.length, rows.together, rows.where()) == (640, False, None)
    seen = torch.arange(620, 640)
    assert torch.equal(folded_topk(q, w, rows, seen, 9), folded_topk(q, w, DenseRows(keys), seen, 9))
    held = keys[0, :320], keys[0, 320:]
    made = [packed.Part(packed.Made(320, lambda a, b, one=one: one[a:b]), None, 0) for one in held]
    rows = packed.PartRows(made, 8, torch.float32, torch.device("cpu"))
    assert torch.equal(rows.tile(300, 333), keys[:, 300:333])
    assert torch.equal(folded_topk(q, w, rows, seen, 9), folded_topk(q, w, DenseRows(keys), seen, 9))


def test_what_runs_is_said() -> None:
    assert scan.LEVELS[scan.level()] in scan.running()


def test_what_runs_instead_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "level", lambda: 0)
    assert "no AVX2" in scan.running()
    monkeypatch.setattr(scan, "LIBRARY", scan.LIBRARY.with_name("absent.so"))
    assert "without a C++ compiler" in scan.running()


def test_time_is_counted_once() -> None:
    """Of a chunk around the call, of compiled steps within it: what Python asks of the few is no step."""
    q, w, keys = draw(1, 3, 400, J=8)
    before = index_seconds()
    begun = time.perf_counter()
    for _ in range(20):
        select_topk(q, w, DenseRows(keys), first=1597, ratio=4, k=9)
    most, after = time.perf_counter() - begun, index_seconds()
    assert 0 < after.chunks - before.chunks < most
    assert after.steps == before.steps


def test_time_of_a_compiled_step_is_counted() -> None:
    q, w, keys = draw(1, 1, 400, J=8)
    places, picks = scan.addresses(DenseRows(keys)), torch.full((1, 1, 9), -1)
    assert places is not None
    number, place, some = ctypes.c_int, ctypes.c_int64, ctypes.c_void_p
    kinds = [some, number, number, some, some, *[number] * 3, *[place] * 3, number, some, number, place, number, some,
             number, some]  # fmt: skip
    select = ctypes.CFUNCTYPE(None, *kinds)(scan.select_address())
    before, begun = index_seconds(), time.perf_counter()
    select(None, 1, scan.level(), q.data_ptr(), w.data_ptr(), 1, q.shape[2], 8, 1599, 4, 400, 9, places.ctypes.data,
           len(places), 0, 0, None, 0, picks.data_ptr())  # fmt: skip
    most, after = time.perf_counter() - begun, index_seconds()
    assert torch.equal(picks, picked(q, w, DenseRows(keys), first=1599, k=9))
    assert 0 < after.steps - before.steps < most
    assert after.chunks == before.chunks
