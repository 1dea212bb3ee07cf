"""Meshes: who shares what, for every rank of a layout."""

from __future__ import annotations

import pytest
import torch.distributed as dist

from octavo.train.parallel.layout import Layout
from octavo.train.parallel.mesh import Mesh


def test_every_rank_has_its_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 2 x 2 x 2 x 2 ranks in one process without messages (torch's fake backend)."""
    from torch.testing._internal.distributed.fake_pg import FakeStore

    layout = Layout(dp=2, fsdp=2, cp=2, ep=2)
    shares = []
    for rank in (0, 5, 10, 15):
        dist.init_process_group("fake", store=FakeStore(), rank=rank, world_size=16)
        try:
            mesh = Mesh.make(layout, "cpu")
            fsdp, cp, ep = rank // 4 % 2, rank // 2 % 2, rank % 2
            first = rank // 8 * 8
            groups = (mesh.shard_group, mesh.expert_group, mesh.chunk_group)
            assert [dist.get_process_group_ranks(group) for group in groups] == [
                list(range(first, first + 8)),
                [first + 4 * fsdp + 2 * cp + one for one in (0, 1)],
                [first + 4 * fsdp + 2 * one + ep for one in (0, 1)],
            ]
            shares.append(mesh.share)
        finally:
            dist.destroy_process_group()
    assert shares == [0, 3, 4, 7]  # 0 | dp 0, fsdp 1, ep 1 | dp 1, fsdp 0, ep 0 | dp 1, fsdp 1, ep 1
