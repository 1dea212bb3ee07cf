"""Weights as a GPU keeps them: small formats where they are exact, nothing rounded elsewhere."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("triton")

from octavo.kernels.quant import fp4_pack, fp4_unpack, fp8_dequantize_blocks, fp8_quantize_blocks
from octavo.model.gpu.weights import take
from tests.support.gpu_world import FIELDS
from tests.support.tiny import build_model, random_tensors, tiny_config


def test_small_formats_are_kept_where_they_are_exact() -> None:
    fields = {"hidden_size": 128, "moe_intermediate_size": 128, "compress_ratios": (0, 4)}
    config = tiny_config(**(FIELDS | fields), num_hash_layers=0)
    net = build_model(config, random_tensors(config, 1)).bfloat16().requires_grad_(False)
    routed = net.layers[0].ffn.experts
    for name in ("w1", "w3", "w2"):
        weight = getattr(routed, name)
        weight.copy_(torch.stack([fp4_unpack(*fp4_pack(one)) for one in weight]))
    down = net.layers[0].attn.wo_b
    shared = net.layers[0].ffn.shared_experts
    for part in (shared.w1, shared.w3, shared.w2):
        part.weight.copy_(fp8_dequantize_blocks(*fp8_quantize_blocks(part.weight)))
    weights = take(net, torch.bfloat16)
    first, second = weights.layers
    assert (first.experts.routed.format, first.experts.shared.format) == ("fp4", "fp8")
    assert second.experts.routed.format == "bf16"
    assert second.attention.out_b.scale is None
    codes = first.experts.routed
    assert codes.s1 is not None
    assert torch.equal(fp4_unpack(codes.w1[2], codes.s1[2]).bfloat16(), routed.w1[2])
    assert down.weight.shape[1] % 128, "the widths of this test leave attention maps as they are"
