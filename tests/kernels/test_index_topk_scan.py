"""The compiled scan picks what a full sort picks, at every level that this processor has."""

from __future__ import annotations

import pytest
import torch

from octavo.kernels.dispatch import Body, use
from octavo.kernels.index_topk import index_scores, index_topk, scan
from octavo.kernels.rows import DenseRows
from tests.kernels.test_index_topk import as_sets, draw, expected_picks

if scan.level() == 0:
    pytest.skip("the package was built without a compiler, or for another processor", allow_module_level=True)

LEVELS = range(1, scan.level() + 1)


@pytest.fixture(params=LEVELS, ids=[scan.LEVELS[level] for level in LEVELS], autouse=True)
def at_level(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "level", lambda: request.param)
    monkeypatch.setattr(scan, "_ENTRIES", (0, 0, 0))


@torch.no_grad()
def picked(q: torch.Tensor, w: torch.Tensor, keys: torch.Tensor, *, first: int, k: int) -> torch.Tensor:
    assert scan.fits(q, DenseRows(keys))
    return index_topk(q, w, DenseRows(keys), first=first, ratio=4, k=k)


@pytest.mark.parametrize("k", [1, 2, 7, 40])
@pytest.mark.parametrize(("first", "S"), [(0, 18), (0, 90), (3, 90), (50, 91)])
@pytest.mark.parametrize("I", [1, 3, 4, 9])
def test_ties_and_borders(first: int, S: int, k: int, I: int) -> None:
    q, w, keys = draw(1, S, (first + S) // 4, I=I, J=8, seed=k)
    found = picked(q, w, keys, first=first, k=k)
    assert as_sets(found) == expected_picks(q, w, keys, first=first, ratio=4, k=k)


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


def test_keys_that_bytes_cannot_tell_apart() -> None:
    """Scores closer together than a byte's rounding: only the bound keeps the best from being passed over."""
    generator = torch.Generator().manual_seed(0)
    base, small = torch.randn(64, generator=generator), torch.randn(9_000, 64, generator=generator)
    keys = (base + 1e-3 * small).unsqueeze(0)
    q, w = torch.randn(1, 16, 4, 64, generator=generator), torch.ones(1, 16, 4)
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
