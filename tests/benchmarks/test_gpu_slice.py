"""The benchmark of a slice on a GPU: its configuration, counted bytes and operations, weights that a step can run."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("triton")

from benchmarks import gpu_slice
from benchmarks.gpu_weights import fill_entries
from octavo.bench.bounds import Rates
from octavo.cache.layout import RowFormat
from octavo.config.model import LayerKind
from octavo.engine.gpu.graphs import StepGraphs, StepInput
from octavo.engine.gpu.replay import Captures

RATES = Rates(device="made up", bandwidth=1e12, peaks={"bf16": 1e14, "fp8": 2e14, "fp32": 1e13})
SMALL = {
    "num_hidden_layers": 3, "compress_ratios": (0, 4, 128), "vocab_size": 256, "hidden_size": 128, "head_dim": 128,
    "num_attention_heads": 2, "q_lora_rank": 128, "o_groups": 1, "o_lora_rank": 128, "index_n_heads": 2,
    "index_head_dim": 64, "index_topk": 32, "n_routed_experts": 4, "num_experts_per_tok": 2,
    "moe_intermediate_size": 128,
}  # fmt: skip


def test_the_slice_has_two_layers_of_each_kind_at_full_width() -> None:
    config = gpu_slice.slice_config()
    assert [config.layer_kinds.count(kind) for kind in LayerKind] == [2, 2, 2]
    assert (config.hidden_size, config.n_routed_experts, config.quant_sim) == (4096, 256, True)


@pytest.fixture(params=[RowFormat.FP8, RowFormat.FP4])
def bench(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> gpu_slice.Bench:
    config = gpu_slice.slice_config().changed(**SMALL)
    monkeypatch.setattr(gpu_slice, "slice_config", lambda: config)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return gpu_slice.Bench(2048, device, RATES, request.param, RowFormat.FP4)


def test_a_step_over_random_entries_is_finite(bench: gpu_slice.Bench) -> None:
    fill_entries(bench.pool)
    graphs = StepGraphs(bench.model, bench.slots(2, 4), Captures.on(bench.device))
    given = StepInput(tokens=np.array([5, 9]), slots=np.arange(2), positions=np.full(2, 1023))
    logits = graphs.run(given, most=1, pages=4).logits
    assert logits.shape == (2, 256)
    assert bool(torch.isfinite(logits).all())


def test_bytes_and_operations_grow_with_what_they_should(bench: gpu_slice.Bench) -> None:
    one, eight = bench._decode_bytes(1, 1024), bench._decode_bytes(8, 1024)
    assert one["maps"] == eight["maps"]
    assert one["experts"] < eight["experts"] <= 8 * one["experts"]
    assert eight["index"] == 8 * one["index"] == 8 * 256 * 34  # 256 keys of 64 channels: 32 bytes of pairs, 2 scales
    layout = bench.layout
    entry = {RowFormat.FP8: 64 + 128 + 8, RowFormat.FP4: 32 + 64 + 8}[layout.main]
    assert one["attention"] == 3 * 128 * (64 + 128 + 8) + (32 + 1024 // 128) * entry
    near, far = bench._bound_parts(0, 256), bench._bound_parts(1 << 20, 256)
    assert near["maps"] == far["maps"]
    assert far["index"] > 100 * near["index"]
    assert bench._chunk_bound(0, 256) == pytest.approx(sum(near.values()))
