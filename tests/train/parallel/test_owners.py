"""Owners: whole matrices come to the work and go back; how rows lie on ranks."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from octavo.train.parallel import owners
from octavo.train.parallel.owners import Owners


def test_one_rank_owns_everything(one_rank: dist.ProcessGroup) -> None:
    matrices = [torch.randn(3, 5), torch.randn(4, 2), torch.randn(1, 7)]
    seen: list[tuple[int, ...]] = []

    def work(given: list[Tensor]) -> list[Tensor]:
        seen.extend(tuple(m.shape) for m in given)
        return [m * 2 for m in given]

    made = Owners(one_rank).apply(matrices, [3, 4, 1], work, first=5)
    assert seen == [(3, 5), (4, 2), (1, 7)]
    assert all(torch.equal(one, 2 * m) for one, m in zip(made, matrices, strict=True))


@pytest.mark.parametrize("height", [1, 3, 8, 9])
def test_rows_lie_as_chunks_do(height: int) -> None:
    chunks = [len(one) for one in torch.zeros(height).chunk(4)]
    assert [owners._rows(height, 4, rank) for rank in range(4)] == chunks + [0] * (4 - len(chunks))
