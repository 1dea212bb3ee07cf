"""The compiled scan picks what a full sort picks, at every level that this processor has."""

from __future__ import annotations

import pytest
import torch

from octavo.kernels.dispatch import Body, use
from octavo.kernels.index_topk import index_scores, index_topk, scan
from octavo.kernels.rows import DenseRows, Rows
from tests.kernels.test_index_topk import as_sets, draw, expected_picks
from tests.kernels.test_index_topk_few import in_parts

if scan.level() == 0:
    pytest.skip("the package was built without a compiler, or for another processor", allow_module_level=True)

LEVELS = range(1, scan.level() + 1)


@pytest.fixture(params=LEVELS, ids=[scan.LEVELS[level] for level in LEVELS], autouse=True)
def at_level(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "level", lambda: request.param)
    monkeypatch.setattr(scan, "_ENTRIES", (0, 0, 0))


@torch.no_grad()
def picked(q: torch.Tensor, w: torch.Tensor, keys: torch.Tensor | Rows, *, first: int, k: int) -> torch.Tensor:
    rows = DenseRows(keys) if isinstance(keys, torch.Tensor) else keys
    assert scan.fits(q, rows)
    return index_topk(q, w, rows, first=first, ratio=4, k=k)


@pytest.mark.parametrize("k", [1, 2, 7, 40])
@pytest.mark.parametrize(("first", "S"), [(0, 18), (0, 90), (3, 90), (50, 91)])
@pytest.mark.parametrize("I", [1, 3, 4, 9])
def test_ties_and_borders(first: int, S: int, k: int, I: int) -> None:
    q, w, keys = draw(1, S, (first + S) // 4, I=I, J=8, seed=k)
    found = picked(q, w, keys, first=first, k=k)
    assert as_sets(found) == expected_picks(q, w, keys, first=first, ratio=4, k=k)


@pytest.mark.parametrize("heads", [*range(1, 10), 12, 64])
@pytest.mark.parametrize("width", [8, 24, 64, 128])
def test_edges_of_tiles(heads: int, width: int) -> None:
    """Keys around a group of 16, a chunk of 64 and a tile; any number of heads; an odd number of queries; many ties."""
    for C in (1, 15, 16, 17, 63, 64, 65, 130, 511, 513, 1_537):
        q, w, keys = draw(1, 17, C, I=heads, J=width, seed=C)
        for k in (1, 12):
            call = {"first": 4 * C - 17 if C > 4 else 0, "k": k}
            found = picked(q, w, keys, **call)
            with use(Body.REFERENCE):
                assert as_sets(found) == as_sets(index_topk(q, w, DenseRows(keys), ratio=4, **call)), C


@pytest.mark.parametrize("heads", [1, 4, 7, 8, 64])
def test_picks_ascend_and_are_those_of_a_handful(heads: int) -> None:
    """Both score in FP32 in one order, so that reading and writing choose alike to the last bit."""
    generator = torch.Generator().manual_seed(heads)
    q, w = torch.randn(1, 19, heads, 64, generator=generator), torch.randn(1, 19, heads, generator=generator)
    keys = torch.randn(1, 6_001, 64, generator=generator)
    found = picked(q, w, keys, first=23_990, k=33)
    for s in range(19):
        call = {"first": 23_990 + s, "ratio": 4, "k": 33}
        for rows in (DenseRows(keys), in_parts(keys)):
            assert torch.equal(scan.few_topk(q[:, s : s + 1], w[:, s : s + 1], rows, **call), found[:, s : s + 1])


@pytest.mark.parametrize("k", [1, 64, 200, 256])
@pytest.mark.parametrize("heads", [2, 8])
def test_those_that_are_surely_among_the_best(heads: int, k: int) -> None:
    """Long picks of keys, a few of which lead by far, are alike, or are no numbers: some need no score, others tie."""
    generator = torch.Generator().manual_seed(k)
    q, w = torch.randn(1, 16, heads, 64, generator=generator), torch.rand(1, 16, heads, generator=generator)
    keys = torch.randn(1, 2_048, 64, generator=generator)
    keys[0, ::40] *= 3
    keys[0, 700:1_000] = keys[0, 100:400]
    keys[0, [5, 1_300]], keys[0, [800, 2_000]] = torch.nan, 1e20
    found = picked(q, w, keys, first=8_180, k=k)
    for s in range(16):
        call = {"first": 8_180 + s, "ratio": 4, "k": k}
        one = scan.few_topk(q[:, s : s + 1], w[:, s : s + 1], DenseRows(keys), **call)
        assert torch.equal(one, found[:, s : s + 1])


def test_keys_in_parts() -> None:
    """Places with bytes and without, and such as begin within a group; and keys that are no FP32."""
    generator = torch.Generator().manual_seed(3)
    q, w = torch.randn(1, 21, 8, 64, generator=generator), torch.randn(1, 21, 8, generator=generator)
    keys = torch.randn(1, 2_900, 64, generator=generator)
    call = {"first": 11_590, "k": 40}
    plain = picked(q, w, keys, **call)
    for cuts in ((), (1_000,), (7, 700, 710, 2_890)):
        for rows in (in_parts(keys, cuts), in_parts(keys, cuts, first=5), in_parts(keys, cuts, as_bytes=False)):
            assert torch.equal(picked(q, w, rows, **call), plain)
    half = keys.bfloat16()
    assert torch.equal(picked(q, w, half, **call), picked(q, w, half.float(), **call))


@pytest.mark.parametrize(("q_power", "key_power"), [(-40, 0), (0, -40), (-55, -60), (40, 40), (60, -60), (-60, 60)])
def test_powers_of_two_change_nothing(q_power: int, key_power: int) -> None:
    """Bounds hold where squares of queries or keys leave FP32: scores are scaled to the bit."""
    generator = torch.Generator().manual_seed(9)
    q, w = torch.randn(1, 16, 8, 64, generator=generator), torch.randn(1, 16, 8, generator=generator)
    keys = torch.randn(1, 3_000, 64, generator=generator)
    call = {"first": 11_980, "k": 30}
    assert torch.equal(picked(q * 2.0**q_power, w, keys * 2.0**key_power, **call), picked(q, w, keys, **call))


@pytest.mark.parametrize("heads", [3, 4, 8])
def test_rows_that_are_no_numbers(heads: int) -> None:
    """An infinite key has the best score, NaN count as products of nothing; neither disturbs what else is chosen."""
    generator = torch.Generator().manual_seed(heads)
    q = torch.rand(1, 16, heads, 16, generator=generator) + 0.1
    w, keys = torch.rand(1, 16, heads, generator=generator), torch.randn(1, 2_700, 16, generator=generator)
    finite = keys.clone()
    keys[0, [3, 600, 2_600]], finite[0, [3, 600, 2_600]] = torch.nan, 0.0
    keys[0, [70, 2_100]], finite[0, [70, 2_100]] = torch.inf, 1e20
    call = {"first": 10_790, "k": 25}
    found = picked(q, w, keys, **call)
    assert torch.equal(found, picked(q, w, finite, **call))
    assert all({70, 2_100} <= row for row in as_sets(found)[0])


def test_one_number_that_is_none_leaves_the_other_queries_alone() -> None:
    generator = torch.Generator().manual_seed(5)
    q, w = torch.randn(1, 17, 4, 16, generator=generator), torch.randn(1, 17, 4, generator=generator)
    keys, call = torch.randn(1, 1_000, 16, generator=generator), {"first": 3_980, "k": 8}
    plain = picked(q, w, keys, **call)
    q[0, 4, 1, 2], w[0, 9, 0] = torch.nan, torch.inf
    found, rest = picked(q, w, keys, **call), [s for s in range(17) if s not in (4, 9)]
    assert torch.equal(found[:, rest], plain[:, rest])


@pytest.mark.parametrize(("heads", "width"), [(4, 64), (8, 64), (13, 24), (5, 128)])
@pytest.mark.parametrize("ties", [False, True])
def test_several_tiles(heads: int, width: int, ties: bool) -> None:
    """Three tiles of 8,192 keys, the last one cut, and scores that rise along the text, so that every tile adds."""
    generator = torch.Generator().manual_seed(heads)
    if ties:
        q, w, keys = draw(1, 18, 17_000, I=heads, J=width)
    else:
        q, w = torch.randn(1, 18, heads, width, generator=generator), torch.randn(1, 18, heads, generator=generator)
        keys = torch.randn(1, 17_000, width, generator=generator) * torch.linspace(0.5, 2, 17_000).view(1, -1, 1)
    call = {"first": 67_960, "k": 100}
    found = picked(q, w, keys, **call)
    with use(Body.REFERENCE):
        expected = index_topk(q, w, DenseRows(keys), ratio=4, **call)
    if ties:
        assert as_sets(found) == as_sets(expected)
    assert (found.sort(-1).values == expected.sort(-1).values).float().mean() > 0.999  # but for rounding
    scores = index_scores(q, w, keys)
    got, wanted = (scores.gather(2, picks).sort(-1).values for picks in (found, expected))
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("lower", [0, 2])
def test_keys_that_bytes_cannot_tell_apart(lower: int) -> None:
    """Scores closer together than a byte's rounding: only the bound keeps the best from being passed over."""
    generator = torch.Generator().manual_seed(0)
    base, small = torch.randn(64, generator=generator), torch.randn(9_000, 64, generator=generator)
    keys = (base + 1e-3 * small).unsqueeze(0)
    q, w = torch.randn(1, 16, 4, 64, generator=generator), torch.ones(1, 16, 4)
    w[..., :lower] = -1e-3  # the other heads alone rule keys out
    found = picked(q, w, keys, first=36_000 - 16, k=32)
    scores = index_scores(q.double(), w.double(), keys.double())
    best = scores.topk(32, -1).values.amin(-1)
    assert (scores.gather(2, found).amin(-1) >= best - 1e-4).all()


def test_zero_queries_take_the_first_entries() -> None:
    q, w, keys = torch.zeros(1, 20, 4, 16), torch.ones(1, 20, 4), torch.randn(1, 9_000, 16)
    found = picked(q, w, keys, first=36_000 - 20, k=5)
    assert as_sets(found) == [[set(range(5))] * 20]


@pytest.mark.parametrize("spread", [0.0, 1e-30, 1e18, 3e37])
def test_scores_of_any_size(spread: float) -> None:
    """Squares that underflow, and squares that overflow: the bound is then no bound, and every key is scored."""
    generator = torch.Generator().manual_seed(1)
    keys = torch.randn(1, 3_000, 8, generator=generator) * spread
    keys[0, 17] = 1.0
    q, w = torch.zeros(1, 40, 2, 8), torch.tensor([0.5, -0.5]).expand(1, 40, 2)
    q[:, :, 0, 0], q[:, :, 1, 0] = 1, -1
    found = picked(q, w, keys, first=12_000, k=50)
    ranked = (keys[0, :, 0] * 0.5).sort(descending=True, stable=True).indices[:50]
    assert as_sets(found) == [[set(ranked.tolist())] * 40]


def test_few_entries_are_left_to_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    q, least = torch.zeros(1, 16, 4, 8), 100
    monkeypatch.setattr(scan, "_ENTRIES", (0, least, least))
    with torch.no_grad():
        assert scan.fits(q, DenseRows(torch.zeros(1, least, 8)))
        assert not scan.fits(q, DenseRows(torch.zeros(1, least - 1, 8)))
        assert not scan.fits(q[:, 1:], DenseRows(torch.zeros(1, least, 8)))


def test_threads_change_nothing() -> None:
    q, w, keys = torch.randn(1, 70, 4, 64), torch.randn(1, 70, 4), torch.randn(1, 3_000, 64)
    alone = picked(q, w, keys, first=11_900, k=64)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        both = picked(q, w, keys, first=11_900, k=64)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(alone.sort(-1).values, both.sort(-1).values)


@pytest.mark.parametrize("heads", [1, 3, 8, 13])
def test_heads_that_lower_scores(heads: int) -> None:
    """Any number of them: keys behind the first few hundred are ruled out by the other heads, those of a tile's last
    group and of a place that ends within a group too. Scoring all keys in FP32 knows no such heads."""
    generator = torch.Generator().manual_seed(heads)
    q = torch.randn(1, heads + 16, heads, 64, generator=generator)
    w = torch.rand(1, heads + 16, heads, generator=generator)
    for s in range(heads + 1):
        w[0, s, torch.randperm(heads, generator=generator)[:s]] *= -1
    keys, call = torch.randn(1, 4_999, 64, generator=generator), {"first": 4 * 4_999 - heads - 16, "k": 3}
    for rows in (DenseRows(keys), in_parts(keys, (1_600, 4_000))):
        found = picked(q, w, rows, **call)
        for s in range(heads + 16):
            alone = scan.few_topk(q[:, [s]], w[:, [s]], DenseRows(keys), first=call["first"] + s, ratio=4, k=3)
            assert torch.equal(found[:, [s]], alone)
