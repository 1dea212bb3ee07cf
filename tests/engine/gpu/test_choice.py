"""The runner that a model gets, and the reason said where it is the plain one."""

from __future__ import annotations

from unittest import mock

import torch

from octavo.cache.layout import CacheLayout, RowFormat
from octavo.cache.pool import PagePool
from octavo.engine.gpu.choice import make_runner, why_plain
from octavo.engine.gpu.runner import GPU_CHUNK, GpuRunner
from octavo.engine.runner import CHUNK, Runner
from octavo.model.transformer import Transformer
from tests.support.gpu_world import DEVICE
from tests.support.tiny import tiny_config

CUDA = torch.device("cuda")


def test_why_a_model_runs_plainly() -> None:
    fields = {"hidden_size": 32, "q_lora_rank": 32, "o_lora_rank": 32, "moe_intermediate_size": 32}
    config = tiny_config(**fields)
    exact, small = CacheLayout(config, main=RowFormat.BF16, index=RowFormat.BF16), CacheLayout(config)
    bf16 = torch.bfloat16
    assert "the device is cpu" in str(why_plain(exact, bf16, torch.device("cpu")))
    assert "dtype is float32" in str(why_plain(exact, torch.float32, CUDA))
    assert "entries are stored as fp32" in str(why_plain(small, bf16, CUDA))
    levels = CacheLayout(config.changed(index_levels=2), main=RowFormat.BF16, index=RowFormat.BF16)
    assert "index_levels is 2" in str(why_plain(levels, bf16, CUDA))
    assert why_plain(exact, bf16, CUDA) is None
    four = CacheLayout(config, main=RowFormat.FP4, index=RowFormat.BF16)
    with mock.patch("torch.cuda.get_device_capability", return_value=(8, 0)):
        assert why_plain(four, bf16, CUDA) == "FP8 rows need compute capability 8.9"
    with mock.patch("torch.cuda.get_device_capability", return_value=(9, 0)):
        assert why_plain(four, bf16, CUDA) is None
    with mock.patch("importlib.util.find_spec", return_value=None):
        assert why_plain(exact, bf16, CUDA) == "triton is not installed"


def test_the_pool_decides(model: Transformer) -> None:
    layout = CacheLayout(model.config)
    plain = make_runner(model, PagePool(layout, capacity_tokens=256, device=DEVICE), chunk=None, name="a")
    assert (type(plain), plain.chunk, plain.name) == (Runner, CHUNK, "a")
    pool = PagePool(layout, capacity_tokens=256, device=DEVICE, fixed=True)
    fused = make_runner(model, pool, chunk=None, name="b")
    assert (type(fused), fused.chunk, fused.name) == (GpuRunner, GPU_CHUNK, "b")
    assert make_runner(model, pool, chunk=32, name="b").chunk == 32
