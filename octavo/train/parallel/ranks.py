"""The processes of a run: each computes its share of a step's rows, sums are taken over all of them.

Covers: joining the processes that torchrun started (NCCL on GPUs, gloo on CPU), sums in one transfer, the gradient of
parameters that every rank holds and of those that are spread, and its norm. Does not cover: spreading (`sharding`),
exchanges within a layer (`experts`, `context`).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from octavo.config.errors import UsageError
from octavo.train.parallel.layout import Layout
from octavo.train.parallel.mesh import Mesh


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """This process among `count` equal ones; `mesh` is there when parameters are spread over them."""

    index: int = 0
    count: int = 1
    mesh: Mesh | None = None

    @classmethod
    def join(cls, device: str, layout: Layout | None = None) -> tuple[Ranks, torch.device]:
        """The ranks that torchrun started (one, without torchrun) and this rank's device. Raises UsageError when the
        machine has fewer GPUs than local ranks, or the layout (None: replicas) is for another number of ranks."""
        count, chosen = int(os.environ.get("WORLD_SIZE", "1")), torch.device(device)
        if layout is not None:
            layout.check_ranks(count)
        if count == 1:
            return cls(), chosen
        if chosen.type == "cuda":
            local = int(os.environ["LOCAL_RANK"])
            if local >= torch.cuda.device_count():
                raise UsageError(f"local rank {local} has no GPU: this machine has {torch.cuda.device_count()}")
            chosen = torch.device("cuda", local)
            torch.cuda.set_device(chosen)
        if not dist.is_initialized():
            dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
        mesh = None if layout is None or layout.plain else Mesh.make(layout, chosen.type)
        return cls(index=dist.get_rank(), count=dist.get_world_size(), mesh=mesh), chosen

    @property
    def first(self) -> bool:
        """The rank that logs and saves."""
        return self.index == 0

    @property
    def share(self) -> tuple[int, int]:
        """(i, n): this rank computes the i-th of n equal parts of a step's rows, or of one chunk of each of them."""
        return (self.index, self.count) if self.mesh is None else (self.mesh.share, self.mesh.layout.shares)

    def add(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor (one device) by its sum over all ranks, in FP32, in one transfer."""
        if self.count == 1 or not tensors:
            return
        flat = torch.cat([t.reshape(-1).float() for t in tensors])
        dist.all_reduce(flat)
        for tensor, part in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
            tensor.copy_(part.view_as(tensor))

    def gather_gradients(self, parameters: Iterable[nn.Parameter], sums: Sequence[Tensor]) -> list[Tensor]:
        """The gradients' sums over all ranks, of the rows that this rank holds of each parameter; `sums` become sums
        over all ranks too. A parameter that was used on some ranks alone has a gradient on all afterwards."""
        given = list(parameters)
        if self.mesh is not None:  # gradients were summed on their way back
            self.add(sums)
            return [local(p.grad) for p in given if p.grad is not None]
        if self.count > 1 and given:
            used = torch.tensor([float(p.grad is not None) for p in given], device=given[0].device)
            self.add([used])
            for parameter, n in zip(given, used.tolist(), strict=True):
                if n and parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
        grads: list[Tensor] = [p.grad for p in given if p.grad is not None]
        self.add([*grads, *sums])
        return grads

    def norm(self, grads: Sequence[Tensor]) -> Tensor:
        """The norm of all gradients together."""
        norm = torch.nn.utils.get_total_norm(grads)
        if self.mesh is None:
            return norm
        square = norm.float().square()
        dist.all_reduce(square, group=self.mesh.shard_group)
        return square.sqrt()

    def agreed(self, wish: bool, device: torch.device) -> bool:
        """What the first rank wishes."""
        if self.count == 1:
            return wish
        flag = torch.tensor([float(wish and self.first)], device=device)
        self.add([flag])
        return bool(flag.item())

    def leave(self) -> None:
        """Wait for the others and part."""
        if self.count > 1:
            dist.barrier()
            dist.destroy_process_group()


def local(tensor: Tensor) -> Tensor:
    """The rows of a tensor that this rank holds: all of them, unless it is spread."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
