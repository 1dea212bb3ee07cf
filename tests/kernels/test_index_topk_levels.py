"""Two levels: what the definition says, by both bodies; and all there is where every block is looked into."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from octavo.kernels.index_topk import Levels, index_scores, index_topk, scan, select_topk, two_level_topk
from octavo.kernels.index_topk.packed import Part, PartRows
from octavo.kernels.rows import DenseRows
from octavo.kernels.selection import Picked
from tests.kernels.test_index_topk import as_sets, draw


@pytest.fixture(params=["gather", *scan.LEVELS[1:]])
def _body(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    level = 0 if request.param == "gather" else scan.LEVELS.index(request.param)
    if level > scan.level():
        pytest.skip("the package was built without a compiler, or for another processor")
    monkeypatch.setattr(scan, "level", lambda: level)
    monkeypatch.setattr(scan, "_ENTRIES", (0, 0, 0))


def rounded(vector: np.ndarray, most: int) -> tuple[np.ndarray, np.float32]:
    top = np.abs(vector).max()
    if top < 1e-30:
        return np.zeros_like(vector), np.float32(0)
    return np.rint(vector * np.float32(most / top)), np.float32(top / most)


def folded_scores(q: np.ndarray, w: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Of q [I, J], w [I], keys [n, J], all FP32, one after the other: heads by a sample, their sum, its products."""
    pairs = [rounded(key, 7) for key in keys]
    numbers, scale = np.array([one for one, _ in pairs]), np.array([size for _, size in pairs])
    shares = np.ones(len(q), dtype=np.float32)
    if groups := len(keys) // 16:
        apart = -(-groups // 64)
        sample = [16 * g + e for g in range(0, groups, apart) for e in range(16)]
        scores, products = np.zeros(len(sample), dtype=np.float32), []
        for head, weight in zip(q, w, strict=True):
            whole, size = rounded(head, 127)
            products.append(numbers[sample] @ whole)
            scores += weight * size * np.maximum(products[-1], 0)
        scores *= scale[sample]
        best = np.ones(len(sample), dtype=bool) if len(sample) <= 32 else scores >= np.sort(scores)[-32]
        shares = np.array([np.float32((own[best] > 0).sum()) / np.float32(best.sum()) for own in products])
    folded = np.zeros(q.shape[1], dtype=np.float32)
    for head, weight, share in zip(q, w, shares, strict=True):
        folded += weight * share * head
    return numbers @ rounded(folded, 127)[0] * scale


def expected(q: Tensor, w: Tensor, keys: Tensor, *, first: int, k: int, levels: Levels) -> list[list[set[int]]]:
    """By sorting Python numbers: blocks by the folded score of their mean key, then entries of these and the newest."""
    size, out = levels.block // 4, []
    means = keys[:, : keys.shape[1] // size * size].unflatten(1, (-1, size)).mean(2)
    fine = index_scores(q, w, keys).tolist()
    for b in range(q.shape[0]):
        rows = []
        for s in range(q.shape[1]):
            token = first + s + 1
            whole, seen = token // levels.block, min(token // 4, keys.shape[1])
            if token <= levels.after:
                blocks = set(range(whole + 1))
            else:
                border = max(levels.block, 16)
                n = min(token // border * (border // levels.block), means.shape[1])
                coarse = folded_scores(q[b, s].numpy(), w[b, s].numpy(), means[b, :n].numpy()).tolist() if n else []
                ranked = sorted(range(n), key=lambda e, row=coarse: (-row[e], e))
                blocks = {*ranked[: levels.best], *range(n, whole + 1)}
            among = [e for e in range(seen) if e // size in blocks]
            rows.append(set(sorted(among, key=lambda e, row=fine[b][s]: (-row[e], e))[:k]))
        out.append(rows)
    return out


@pytest.mark.usefixtures("_body")
@pytest.mark.parametrize("levels", [Levels(4, 9), Levels(8, 3), Levels(16, 5, after=320), Levels(32, 1)])
@pytest.mark.parametrize(("first", "S"), [(0, 150), (301, 1), (300, 40)])
@pytest.mark.parametrize("k", [1, 9, 60])
def test_picks_by_definition(levels: Levels, first: int, S: int, k: int) -> None:
    q, w, keys = draw(1, S, (first + S) // 4, J=8, seed=k)
    with torch.no_grad():
        found = two_level_topk(q, w, DenseRows(keys), first=first, ratio=4, k=k, levels=levels)
    assert as_sets(found) == expected(q, w, keys, first=first, k=k, levels=levels)


@pytest.mark.usefixtures("_body")
@pytest.mark.parametrize(("heads", "width"), [(1, 16), (8, 64), (9, 24)])
def test_keys_in_pages(heads: int, width: int) -> None:
    """The same picks, of reals, whether keys lie together, in parts that cut blocks, or are no FP32."""
    generator = torch.Generator().manual_seed(heads)
    q, w = torch.randn(1, 41, heads, width, generator=generator), torch.randn(1, 41, heads, generator=generator)
    keys = torch.randn(1, 1_603, width, generator=generator).bfloat16().float()
    call = {"first": 6_371, "ratio": 4, "k": 30, "levels": Levels(16, 20)}
    with torch.no_grad():
        together = two_level_topk(q, w, DenseRows(keys), **call)
        for cuts in ((400,), (18, 803)):
            parts = itertools.pairwise([0, *cuts, keys.shape[1]])
            rows = PartRows([Part(keys[0, a:b], None, 0) for a, b in parts], width, torch.float32, keys.device)
            assert as_sets(two_level_topk(q, w, rows, **call)) == as_sets(together)
        halves = two_level_topk(q, w, DenseRows(keys.bfloat16()), **call)
    assert as_sets(halves) == as_sets(together)
    assert as_sets(together) == expected(q, w, keys, first=6_371, k=30, levels=call["levels"])


def test_several_sequences() -> None:
    q, w, keys = draw(2, 30, 60, J=8)
    call = {"first": 210, "k": 7, "levels": Levels(8, 3)}
    with torch.no_grad():
        found = two_level_topk(q, w, DenseRows(keys), ratio=4, **call)
    assert as_sets(found) == expected(q, w, keys, **call)


@pytest.mark.usefixtures("_body")
def test_all_blocks_are_all_entries() -> None:
    q, w, keys = draw(1, 90, 60, J=8)
    call = {"first": 150, "ratio": 4, "k": 9}
    with torch.no_grad():
        found = two_level_topk(q, w, DenseRows(keys), **call, levels=Levels(8, 40))
        exact = index_topk(q, w, DenseRows(keys), **call)
    assert as_sets(found) == as_sets(exact)


def test_training_chooses_among_all() -> None:
    q, w, keys = draw(1, 90, 60, J=8)
    call = {"first": 150, "ratio": 4, "k": 9}
    trained = select_topk(q, w, DenseRows(keys), **call, levels=Levels(8, 1))
    with torch.no_grad():
        read = select_topk(q, w, DenseRows(keys), **call, levels=Levels(8, 1))
    assert isinstance(trained, Picked)
    assert isinstance(read, Picked)
    assert as_sets(trained.index) == as_sets(index_topk(q, w, DenseRows(keys), **call))
    assert as_sets(read.index) != as_sets(trained.index)


def test_means_of_entries_in_one_tensor() -> None:
    values = torch.randn(2, 11, 3)
    wanted = torch.stack((values[:, :4].mean(1), values[:, 4:8].mean(1)), 1)
    torch.testing.assert_close(DenseRows(values).means(4), wanted)
    assert DenseRows(values.bfloat16()).means(4).dtype == torch.float32
    assert DenseRows(values.double()).means(4).dtype == torch.float64


@pytest.mark.usefixtures("_body")
def test_where_all_coarse_keys_are_equal_the_first_are_looked_into() -> None:
    """Heads that only lower scores contribute to none of the best: the folded query is nothing."""
    q, w, keys = draw(1, 20, 1_250, J=8)
    call = {"first": 4_980, "k": 5, "levels": Levels(4, 2)}
    with torch.no_grad():
        found = two_level_topk(q, -w.abs() - 1, DenseRows(keys), ratio=4, **call)
    assert as_sets(found) == expected(q, -w.abs() - 1, keys, **call)


def test_a_chunk_over_the_first_token_of_two_levels_is_cut_there() -> None:
    levels = Levels(4, 2, after=64)
    assert (levels.divides(60, 64), levels.divides(60, 65), levels.divides(64, 80)) == (False, True, False)
    assert (levels.choose(64), levels.choose(65), levels.border, levels.known(79)) == (False, True, 16, 16)
    assert Levels(32, 1).known(95) == 2
