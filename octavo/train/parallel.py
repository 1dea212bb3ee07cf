"""Ranks of a data-parallel run: every rank computes its share of a step's rows, sums are taken over all ranks.

Covers: joining the processes that torchrun started (NCCL on GPUs, gloo on CPU), sums in one transfer. Does not cover:
sharded parameters, experts or contexts.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from octavo.config.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """This process among `count` equal ones."""

    index: int = 0
    count: int = 1

    @classmethod
    def join(cls, device: str) -> tuple[Ranks, torch.device]:
        """The ranks that torchrun started (one, without torchrun) and this rank's device. Raises UsageError when the
        machine has fewer GPUs than local ranks."""
        count, chosen = int(os.environ.get("WORLD_SIZE", "1")), torch.device(device)
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
        return cls(index=dist.get_rank(), count=dist.get_world_size()), chosen

    @property
    def first(self) -> bool:
        """The rank that logs and saves."""
        return self.index == 0

    def add(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor (one device) by its sum over all ranks, in FP32, in one transfer."""
        if self.count == 1:
            return
        flat = torch.cat([t.reshape(-1).float() for t in tensors])
        dist.all_reduce(flat)
        for tensor, part in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
            tensor.copy_(part.view_as(tensor))

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
