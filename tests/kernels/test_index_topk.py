"""The indexer's scores and its streaming top-k: definition, ties, tile and span borders, padding, memory, gradient."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from octavo.cache.layout import CacheLayout
from octavo.cache.pool import PagedRows, PagePool
from octavo.kernels import dispatch
from octavo.kernels.dispatch import Body, use
from octavo.kernels.index_topk import gathered_scores, index_scores, index_topk, loops, ref, select_topk, streaming
from octavo.kernels.rows import DenseRows
from octavo.kernels.selection import Masked, Picked
from tests.support.tiny import tiny_config


def draw(B: int, S: int, C: int, *, I: int = 3, J: int = 4, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, head weights (negative ones among them) and keys whose scores are exact small integers with many ties.
    """
    generator = torch.Generator().manual_seed(seed)
    q, w, keys = (
        torch.randint(-1, 2, shape, generator=generator).float() for shape in ((B, S, I, J), (B, S, I), (B, C, J))
    )
    return q, w, keys


def expected_picks(q: Tensor, w: Tensor, keys: Tensor, *, first: int, ratio: int, k: int) -> list[list[set[int]]]:
    """By sorting Python numbers: larger score first, then the lower entry."""
    scores = torch.einsum("bsi,bsin->bsn", w, torch.einsum("bsij,bnj->bsin", q, keys).relu()).tolist()
    out = []
    for b in range(q.shape[0]):
        visible = [min((first + s + 1) // ratio, keys.shape[1]) for s in range(q.shape[1])]
        out.append([
            set(sorted(range(n), key=lambda e, row=scores[b][s]: (-row[e], e))[:k]) for s, n in enumerate(visible)
        ])  # fmt: skip
    return out


def as_sets(picks: Tensor) -> list[list[set[int]]]:
    """Chosen entries per query; a repeated one would make the set smaller than the row's count of real picks."""
    for row in picks.flatten(0, 1).tolist():
        real = [e for e in row if e >= 0]
        assert len(set(real)) == len(real)
        assert all(e >= -1 for e in row)
    return [[set(row) - {-1} for row in sequence] for sequence in picks.tolist()]


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of 3 queries, tiles of 4 entries, a merge every 8: all borders within a few dozen entries."""
    monkeypatch.setattr(streaming, "_CPU_QUERIES", 3)
    monkeypatch.setattr(streaming, "_CPU_TILE", 4)
    monkeypatch.setattr(streaming, "_CPU_SPAN", 8)


def test_scores_by_hand() -> None:
    q, w, keys = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4), torch.randn(2, 7, 5)
    scores = index_scores(q, w, keys)
    for b in range(2):
        for s in range(3):
            for n in range(7):
                value = sum(float(w[b, s, i]) * max(0.0, float(q[b, s, i] @ keys[b, n])) for i in range(4))
                assert scores[b, s, n].item() == pytest.approx(value, abs=1e-5)
    index = torch.randint(0, 7, (2, 3, 6))
    torch.testing.assert_close(gathered_scores(q, w, DenseRows(keys).gather(index)), scores.gather(2, index))


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("k", [1, 2, 5, 8, 9, 40, 60])
@pytest.mark.parametrize("first", [0, 3, 50])
def test_ties_and_borders(first: int, k: int) -> None:
    S, ratio = 90, 4
    q, w, keys = draw(2, S, (first + S) // ratio, seed=k)
    expected = expected_picks(q, w, keys, first=first, ratio=ratio, k=k)
    for body in Body:
        with use(body):
            picks = index_topk(q, w, DenseRows(keys), first=first, ratio=ratio, k=k)
        assert picks.shape == (2, S, k)
        assert picks.dtype == torch.int64
        assert as_sets(picks) == expected


@given(
    st.integers(1, 12), st.integers(0, 40), st.integers(1, 10), st.integers(1, 5), st.integers(0, 10_000),
    st.sampled_from([(1, 1, 1), (2, 3, 3), (3, 4, 8), (64, 1024, 8192)]),
)  # fmt: skip
def test_streaming_equals_a_sort(
    S: int, first: int, k: int, ratio: int, seed: int, sizes: tuple[int, int, int]
) -> None:
    q, w, keys = draw(1, S, max(1, (first + S) // ratio), I=2, J=2, seed=seed)
    with pytest.MonkeyPatch.context() as patch:
        for name, size in zip(("_CPU_QUERIES", "_CPU_TILE", "_CPU_SPAN"), sizes, strict=True):
            patch.setattr(streaming, name, size)
        picks = index_topk(q, w, DenseRows(keys), first=first, ratio=ratio, k=k)
    assert as_sets(picks) == expected_picks(q, w, keys, first=first, ratio=ratio, k=k)


@given(st.lists(st.lists(st.sampled_from([-1.5, -0.0, 0.0, 2.0]), min_size=9, max_size=9), min_size=1, max_size=5))
def test_stable_topk_prefers_the_lower_position(rows: list[list[float]]) -> None:
    for k in range(1, 10):
        expected = [set(sorted(range(9), key=lambda e, row=row: (-row[e], e))[:k]) for row in rows]
        assert [set(picked) for picked in streaming.stable_topk(torch.tensor(rows), k).tolist()] == expected


@pytest.mark.usefixtures("small_tiles")
def test_all_scores_zero_take_the_first_entries() -> None:
    q, w, keys = torch.randn(1, 100, 2, 4), torch.zeros(1, 100, 2), torch.randn(1, 25, 4)
    picks = index_topk(q, w, DenseRows(keys), first=0, ratio=4, k=6)
    assert as_sets(picks)[0] == [set(range(min(6, (t + 1) // 4))) for t in range(100)]


@pytest.mark.usefixtures("small_tiles")
def test_negative_scores_still_fill_the_picks() -> None:
    q, keys = torch.ones(1, 40, 1, 1), torch.arange(1.0, 41.0).view(1, 40, 1)
    picks = index_topk(q, -torch.ones(1, 40, 1), DenseRows(keys), first=0, ratio=1, k=3)
    assert as_sets(picks)[0] == [set(range(min(3, t + 1))) for t in range(40)]


@pytest.mark.parametrize("body", Body)
def test_nothing_to_choose_from(body: Body) -> None:
    q, w, keys = draw(2, 3, 0)
    with use(body):
        assert index_topk(q, w, DenseRows(keys), first=0, ratio=4, k=5).tolist() == [[[-1] * 5] * 3] * 2
        q, w, keys = draw(2, 0, 6)
        assert index_topk(q, w, DenseRows(keys), first=30, ratio=4, k=5).shape == (2, 0, 5)


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_scores_are_at_least_single_precision(dtype: torch.dtype) -> None:
    q, w, keys = (v.to(dtype) for v in draw(1, 60, 15))
    assert index_scores(q, w, keys).dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    picks = index_topk(q, w, DenseRows(keys), first=0, ratio=4, k=4)
    assert as_sets(picks) == expected_picks(q.float(), w.float(), keys.float(), first=0, ratio=4, k=4)


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize(("queries", "stored"), [
    (torch.float64, torch.float32), (torch.float64, torch.bfloat16), (torch.float32, torch.float64),
])  # fmt: skip
def test_keys_may_be_stored_in_another_precision(queries: torch.dtype, stored: torch.dtype) -> None:
    q, w, keys = draw(1, 60, 15)
    expected = expected_picks(q, w, keys, first=0, ratio=4, k=4)
    q, w, keys = q.to(queries), w.to(queries), keys.to(stored)
    assert index_scores(q, w, keys).dtype == queries
    assert gathered_scores(q, w, DenseRows(keys).gather(torch.zeros(1, 60, 2, dtype=torch.int64))).dtype == queries
    assert as_sets(index_topk(q, w, DenseRows(keys), first=0, ratio=4, k=4)) == expected


@pytest.mark.usefixtures("small_tiles")
def test_keys_in_pages_give_the_same_picks() -> None:
    pool = PagePool(CacheLayout(tiny_config()), capacity_tokens=256)
    key = (1, "index")
    pages = [pool.take() for _ in range(5)][::2]
    runs = pool.runs(pages)
    q, w, keys = draw(1, 8, 190, J=32)
    pool.write(runs, key, 0, keys[0])
    options = {"first": 752, "ratio": 4, "k": 20}
    paged = index_topk(q, w, PagedRows(pool, runs, key, 190), **options)
    assert as_sets(paged) == as_sets(index_topk(q, w, DenseRows(keys), **options))


def test_scores_never_span_the_whole_context(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    scores = streaming.index_scores

    def spy(q: Tensor, w: Tensor, keys: Tensor) -> Tensor:
        sizes.append(q.shape[1] * keys.shape[1])
        return scores(q, w, keys)

    monkeypatch.setattr(streaming, "index_scores", spy)
    q, w, keys = draw(1, 130, 10_000, I=1, J=1)
    index_topk(q, w, DenseRows(keys), first=40_000 - 130, ratio=4, k=16)
    assert max(sizes) <= streaming._CPU_QUERIES * streaming._CPU_TILE
    assert sum(sizes) >= 130 * 9_960


def test_gradient() -> None:
    q, w, keys = (torch.randn(s, dtype=torch.float64, requires_grad=True) for s in ((1, 2, 3, 4), (1, 2, 3), (1, 5, 4)))
    assert torch.autograd.gradcheck(index_scores, (q, w, keys))
    chosen = torch.randn(1, 2, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(gathered_scores, (q, w, chosen))


def test_scores_by_head_are_the_same() -> None:
    q, w, keys = torch.randn(2, 9, 3, 8), torch.randn(2, 9, 3), torch.randn(2, 5, 8)
    torch.testing.assert_close(ref._scores_by_head(q, w, keys), index_scores(q, w, keys))


def test_selection_is_listed_here_and_marked_while_training_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    q, w, keys = torch.randn(1, 40, 3, 8), torch.randn(1, 40, 3), DenseRows(torch.randn(1, 10, 8))
    call = {"first": 0, "ratio": 4, "k": 3}
    listed = select_topk(q, w, keys, **call)
    assert isinstance(listed, Picked)
    monkeypatch.setattr(dispatch, "trains_on_gpu", lambda x: True)
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    with dispatch.train_in_triton(()):
        marked = select_topk(q, w, keys, **call)
    assert isinstance(marked, Masked)
    for s in range(40):
        index = listed.index[0, s]
        assert marked.seen[0, s].nonzero().flatten().tolist() == sorted(index[index >= 0].tolist())


@pytest.mark.parametrize("k", [1, 2, 5, 8, 9, 40, 60])
@pytest.mark.parametrize(("first", "S"), [(0, 1), (3, 2), (50, 1), (0, 90), (3, 90), (50, 90)])
def test_loops_on_ties_and_borders(first: int, S: int, k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("_QUERIES", 12), ("_TILE", 4)):
        monkeypatch.setattr(loops, name, value)
    q, w, keys = draw(1, S, max((first + S) // 4, 1), seed=k)
    with torch.no_grad():
        assert loops.fits(q, DenseRows(keys))
        picks = index_topk(q, w, DenseRows(keys), first=first, ratio=4, k=k)
        apart = index_topk(q, w, DenseRows(keys.double()), first=first, ratio=4, k=k)
    assert as_sets(picks) == as_sets(apart) == expected_picks(q, w, keys, first=first, ratio=4, k=k)


@pytest.mark.parametrize("spread", [0.0, 1e-30, 1.0, 1e30, 3e38])
@pytest.mark.parametrize("S", [1, 40])
def test_loops_on_scores_of_any_size(spread: float, S: int) -> None:
    """Bins of no width, of all widths, and one score far from all others."""
    values = torch.randn(1, 3000, 1) * spread
    values[0, 17] = 3e38
    q, w = torch.ones(1, S, 2, 1), torch.tensor([0.5, -0.5]).expand(1, S, 2)
    q[:, :, 1] = -1  # relu(v) - relu(-v): the key itself, halved
    with torch.no_grad():
        picks = index_topk(q, w, DenseRows(values), first=12000, ratio=4, k=50)
    ranked = (values[0, :, 0] * 0.5).sort(descending=True, stable=True).indices[:50]
    assert as_sets(picks) == [[set(ranked.tolist())] * S]


@pytest.mark.parametrize("heads", [3, 4, 9])
@pytest.mark.parametrize("ties", [False, True])
def test_loops_start_from_a_bound_in_a_long_tile(heads: int, ties: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loops, "_TILE", 300)
    q, w, keys = draw(1, 150, 700, I=heads)
    if not ties:
        q, w, keys = torch.randn_like(q), torch.randn_like(w), torch.randn_like(keys)
    w[0, 7] = 0  # every score is the same
    call = {"first": 2700, "ratio": 4, "k": 20}
    with torch.no_grad():
        found = index_topk(q, w, DenseRows(keys), **call)
    scores = index_scores(q, w, keys)
    if ties:
        assert as_sets(found) == expected_picks(q, w, keys, **call)
    with use(Body.REFERENCE):
        expected = index_topk(q, w, DenseRows(keys), **call)
    found, expected = (scores.gather(2, picks).sort(-1).values for picks in (found, expected))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
