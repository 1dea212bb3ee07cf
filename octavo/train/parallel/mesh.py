"""The ranks of a layout as meshes.

Covers: the DeviceMesh over which parameters are spread, that of the experts, the groups that exchange. Does not cover:
what is spread (`sharding`), degrees and their limits (`layout`).

Rank r stands at place r of [dp, fsdp, cp, ep] in row-major order: ranks that exchange most are neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh

from octavo.train.parallel.layout import Layout


@dataclass(frozen=True, kw_only=True)
class Mesh:
    """Meshes of one layout, with this rank's place in it.

    `dense` is [dp, fsdp x cp x ep] and `experts` [dp, ep, fsdp x cp]; `places` is this rank's [dp, fsdp, cp, ep].
    """

    layout: Layout
    dense: DeviceMesh
    experts: DeviceMesh
    chunks: DeviceMesh
    places: tuple[int, int, int, int]

    @classmethod
    def make(cls, layout: Layout, device: str) -> Mesh:
        """Collective: every rank of the run calls it. `device` is a device type."""
        dp, fsdp, cp, ep = layout.dp, layout.fsdp, layout.cp, layout.ep
        ranks = torch.arange(layout.ranks).view(dp, fsdp, cp, ep)
        at = (ranks == dist.get_rank()).nonzero()[0].tolist()
        by_expert = ranks.view(dp, fsdp * cp, ep).transpose(1, 2)
        by_chunk = ranks.permute(0, 1, 3, 2).reshape(-1, cp)
        return cls(
            layout=layout,
            dense=DeviceMesh(device, ranks.view(dp, -1), mesh_dim_names=("dp", "shard")),
            experts=DeviceMesh(device, by_expert, mesh_dim_names=("dp", "ep", "shard")),
            chunks=DeviceMesh(device, by_chunk, mesh_dim_names=("rows", "cp")),
            places=(at[0], at[1], at[2], at[3]),
        )

    @property
    def share(self) -> int:
        """Which part of a step's rows this rank has, of `layout.shares`."""
        dp, fsdp, _, ep = self.places
        return (dp * self.layout.fsdp + fsdp) * self.layout.ep + ep

    @property
    def shard_group(self) -> dist.ProcessGroup:
        """The ranks that together hold everything once."""
        return self.dense.get_group("shard")

    @property
    def expert_group(self) -> dist.ProcessGroup:
        """The ranks that together hold all experts' parts that this rank holds of its experts."""
        return self.experts.get_group("ep")

    @property
    def chunk_group(self) -> dist.ProcessGroup:
        """The ranks that share this rank's rows, in the order of their chunks."""
        return self.chunks.get_group("cp")
