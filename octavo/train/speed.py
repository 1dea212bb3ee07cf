"""How near a run is to the rate of its device's products.

Covers: the measured rate, and the least time at that rate: 6 operations a token and active parameter, as if nothing but
products with weights had to be done. Attention, index, hyper-connections, losses and the update are overhead to it. The
least time over the time taken is what others call MFU, with the measured rate in place of the data sheet's.
"""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Callable

import torch

from octavo.config.counts import count
from octavo.config.model import ModelConfig

SQUARE = {"cuda": 8192, "cpu": 1024}  # side of the matrices whose product gives the device's rate
_REPEATS = {"cuda": (3, 9), "cpu": (1, 3)}  # warming up and measured


def seconds(action: Callable[[], object], device: torch.device, repeats: int) -> list[float]:
    """Wall-clock time of every repeat, the device's queue emptied before and after."""
    taken = []
    for _ in range(repeats):
        if device.type == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        action()
        if device.type == "cuda":
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - start)
    return taken


@functools.lru_cache(maxsize=8)
def product_rate(device: torch.device) -> float:
    """Operations a second of one large product, measured once: BF16 on a GPU, FP32 on a CPU."""
    side = SQUARE[device.type]
    draw = torch.Generator(device).manual_seed(0)  # not the run's own: a run that is resumed must not draw otherwise
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    a = torch.randn(side, side, device=device, dtype=dtype, generator=draw)
    out = torch.empty_like(a)
    warm, measured = _REPEATS[device.type]
    seconds(lambda: torch.mm(a, a, out=out), device, warm)
    return 2 * side**3 / statistics.median(seconds(lambda: torch.mm(a, a, out=out), device, measured))


def least_seconds(config: ModelConfig, tokens: int, rate: float) -> float:
    """Seconds that products with the weights of `config` take for so many trained tokens at `rate` operations a second;
    what this is of the measured time is the share of the bound."""
    return 6 * count(config).active * tokens / rate
