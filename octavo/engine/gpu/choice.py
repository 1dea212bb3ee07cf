"""Which runner a loaded model gets.

Covers: `why_plain`, the reason why the fused kernels cannot run a model, and `make_runner`. Does not cover: the
runners. Importing this loads no Triton.
"""

from __future__ import annotations

import importlib.util

import torch

from octavo.cache.layout import CacheLayout, RowFormat
from octavo.cache.pool import PagePool
from octavo.engine.runner import CHUNK, Runner
from octavo.model.gpu.missing import missing
from octavo.model.transformer import Transformer


def why_plain(layout: CacheLayout, dtype: torch.dtype, device: torch.device) -> str | None:
    """Why a model runs on plain torch operations; None where the fused kernels run it."""
    if device.type != "cuda":
        return f"the fused kernels need a GPU; the device is {device.type}"
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed"
    if dtype != torch.bfloat16:
        return f"the fused kernels compute in bfloat16; dtype is {str(dtype).removeprefix('torch.')}"
    formats = (RowFormat.BF16, RowFormat.FP8, RowFormat.FP4)
    if layout.main not in formats:
        return f"entries are stored as {layout.main}; the fused kernels read {', '.join(formats)}"
    if RowFormat.FP8 in (layout.window, layout.index) and torch.cuda.get_device_capability(device) < (8, 9):
        return "FP8 rows need compute capability 8.9"
    return missing(layout.config)


def make_runner(model: Transformer, pool: PagePool, *, chunk: int | None, name: str) -> Runner:
    """The runner of the fused kernels over a pool of one slab (`fixed`), the plain one over any other."""
    if not pool.fixed:
        return Runner(model, pool, chunk=CHUNK if chunk is None else chunk, name=name)
    from octavo.engine.gpu.runner import GPU_CHUNK, GpuRunner  # loads triton

    return GpuRunner(model, pool, chunk=GPU_CHUNK if chunk is None else chunk, name=name)
