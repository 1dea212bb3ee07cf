"""The ranks of a spread model and what they exchange.

Covers: `Team`: joining (gloo over the loopback, NCCL between GPUs), sums and gatherings that give every rank the same
bits, run after run. Does not cover: who computes what (`layers`), orders (`orders`), processes (`crew`).

A sum is made in the order of the ranks, in FP32 or wider, and rounded once: a small one on every rank, of a large one
every rank makes a part. What a library's own sum would give may depend on sizes and on its choice of algorithm.
"""

# torch publishes these names without listing them.
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from octavo.config.errors import UsageError

_JOIN_SECONDS = 300.0  # a process must start and load its libraries before it joins
_SMALL = 1 << 14  # values up to which a sum is made on every rank: one exchange instead of two


class Team:
    """`count` ranks, of which this process is number `rank`. `close` parts from the others; twice is fine."""

    def __init__(self, store: Path, rank: int, count: int, *, device: torch.device, seconds: float) -> None:
        """Collective; returns when all ranks have joined through the file `store`; RuntimeError where they do not
        within minutes. Later an exchange that takes longer than `seconds` raises it, as one does whose other side has
        gone."""
        self.rank, self.count, self.device = rank, count, device
        self._runs_on: int | None = None
        self._group: Any = _group(dist.FileStore(str(store), count), rank, count, device)
        self.add(torch.zeros(1, device=device), joining=True)
        if self._group is not None:
            self._group._set_default_timeout(timedelta(seconds=seconds))

    @property
    def open(self) -> bool:
        """Whether the model may run on this thread, all ranks being at the same order; it is set there."""
        return self._runs_on == threading.get_ident()

    @open.setter
    def open(self, runs: bool) -> None:
        self._runs_on = threading.get_ident() if runs else None

    @property
    def backend(self) -> str:
        """What carries the exchanges."""
        return "nccl" if self.device.type == "cuda" else "gloo"

    def add(self, x: Tensor, *, joining: bool = False) -> Tensor:
        """The sum of all ranks' x, in x's shape and dtype."""
        if self.count == 1:
            return x
        flat, count = x.contiguous().view(-1), self.count
        if x.numel() <= _SMALL:
            return _summed(self._every(flat, joining=joining), x.dtype).view(x.shape)
        each = -(-flat.numel() // count)
        padded = torch.nn.functional.pad(flat, (0, each * count - flat.numel()))
        mine = torch.empty_like(padded)
        self._ready(joining)
        self._group.alltoall_base(mine, padded, [], []).wait()
        own = _summed(mine.view(count, each), x.dtype)
        return self._every(own).view(-1)[: flat.numel()].view(x.shape)

    def gather(self, x: Tensor, *, dim: int) -> Tensor:
        """All ranks' x side by side along `dim`, in the ranks' order; all have the same shape."""
        if self.count == 1:
            return x
        every = self._every(x.contiguous().view(-1)).view(self.count, *x.shape)
        return torch.cat(every.unbind(0), dim=dim)

    def close(self) -> None:
        """Part from the others, who need not be there any more."""
        group, self._group, self.open = self._group, None, False
        if group is not None and self.count > 1:
            group.abort()

    def _every(self, flat: Tensor, *, joining: bool = False) -> Tensor:
        """[n] of every rank -> [ranks, n]."""
        self._ready(joining)
        out = flat.new_empty(self.count * flat.numel())
        if flat.numel():
            self._group._allgather_base(out, flat).wait()
        return out.view(self.count, -1)

    def _ready(self, joining: bool) -> None:
        if self._group is None:
            raise RuntimeError("the ranks have parted")
        if not (self.open or joining):
            raise UsageError(
                f"the model is spread over {self.count} workers; only its runner may run it, since all must run at once"
            )


def _summed(every: Tensor, dtype: torch.dtype) -> Tensor:
    """[ranks, n] -> [n], in the order of the ranks."""
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    total = every[0].to(wide)
    for one in every[1:]:
        total = total + one
    return total.to(dtype)


def _group(store: dist.FileStore, rank: int, count: int, device: torch.device) -> Any:
    """A group of its own: torch's default one belongs to whoever uses this library."""
    if count == 1:
        return None
    timeout = timedelta(seconds=_JOIN_SECONDS)
    if device.type == "cuda":
        torch.cuda.set_device(device)
        options: Any = dist.ProcessGroupNCCL.Options()
        options._timeout = timeout
        return dist.ProcessGroupNCCL(store, rank, count, options)
    gloo: Any = dist.ProcessGroupGloo
    options = gloo._Options()
    options._devices = [gloo.create_device(hostname="127.0.0.1")]
    options._timeout = timeout
    return gloo(store, rank, count, options)
