"""How the service shares out a machine.

Covers: the values, their limits and defaults. Does not cover: what a client may ask (`job`), HTTP (`octavo.server`).
Loads no torch.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from octavo.cache.layout import PAGE_TOKENS
from octavo.config.errors import LimitError, UsageError

CHUNK = PAGE_TOKENS
"""Prompt tokens read at a time: a page, so that a prefix is shared as soon as it fills one."""
GPU_CHUNK = 1024
"""On a GPU, where nobody answers; beside answers, which wait for what is read, a page at a time is read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSettings:
    """Limits of the service; checked on construction (LimitError).

    lanes: threads that run the model, each on one core (None: a core each, on a GPU one). max_running: sequences that
    are read or answered at a time; max_queue: jobs that wait beyond them. cache_bytes: memory of all pages (None: half
    of what is free); prefix_bytes: of kept prefixes, their pages, tails and ids (None: half as much). folder: where the
    disk tier lives (None: swapped jobs go to a temporary folder, prefixes are not kept); disk_bytes: its limit.
    warm_seconds: for how long, at most, the steps of a GPU are compiled and captured before the first job.
    """

    lanes: int | None = None
    max_running: int = 64
    max_queue: int = 1024
    cache_bytes: int | None = None
    prefix_bytes: int | None = None
    folder: Path | None = None
    disk_bytes: int = 16 * 2**30
    warm_seconds: float = 0.0

    def __post_init__(self) -> None:
        for name in ("lanes", "max_running", "max_queue", "cache_bytes", "prefix_bytes", "disk_bytes"):
            value = getattr(self, name)
            least = 0 if name in ("max_queue", "prefix_bytes") else 1
            if value is not None and value < least:
                raise LimitError(f"{name} is {value}; it must be at least {least}")
        if not 0 <= self.warm_seconds < float("inf"):
            raise LimitError(f"warm_seconds is {self.warm_seconds}; it must be a finite number from 0")

    def pages(self, page_bytes: int, device: str = "cpu") -> int:
        """Pages of `page_bytes` bytes that the cache may fill. LimitError where there is room for none."""
        room = free_memory(device) // 2 if self.cache_bytes is None else self.cache_bytes
        if room < page_bytes:
            raise LimitError(f"cache_bytes is {room:,}; one page of this model takes {page_bytes:,}")
        return room // page_bytes


def free_memory(device: str = "cpu") -> int:
    """Bytes of memory that programs could take now: what the system calls available, else what is free; of a GPU
    (`cuda`, `cuda:N`) what is free there. UsageError where there is no such GPU."""
    if device != "cpu":
        return _free_of_gpu(device)
    try:
        for line in Path("/proc/meminfo").read_text("ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _free_of_gpu(device: str) -> int:
    import torch  # only who asks for a GPU pays for it

    number = torch.device(device).index or 0
    if number >= torch.cuda.device_count():
        raise UsageError(f"device is {device!r}; there are {torch.cuda.device_count()} GPUs")
    return torch.cuda.mem_get_info(number)[0]
