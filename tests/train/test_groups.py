"""The role of every parameter: a frozen table for the shipped model, and for every other part the model can have."""

from __future__ import annotations

import re

import pytest
import torch

from octavo.config.engram import EngramConfig, EngramVariant
from octavo.config.model import ModelConfig
from octavo.config.presets import flash, xs
from octavo.model.transformer import Transformer
from octavo.train.groups import Role, matrices, role

# Layer numbers are written N. A change here changes how a model is trained: it needs a reason in the change log.
TABLE = {
    "embed.weight": Role.EMBEDDING,
    "head.weight": Role.EMBEDDING,
    "norm.weight": Role.SCALAR,
    "hc_head_fn": Role.MATRIX,
    "hc_head_base": Role.SCALAR,
    "hc_head_scale": Role.SCALAR,
    "layers.N.attn_norm.weight": Role.SCALAR,
    "layers.N.ffn_norm.weight": Role.SCALAR,
    "layers.N.hc_attn_fn": Role.MATRIX,
    "layers.N.hc_attn_base": Role.SCALAR,
    "layers.N.hc_attn_scale": Role.SCALAR,
    "layers.N.hc_ffn_fn": Role.MATRIX,
    "layers.N.hc_ffn_base": Role.SCALAR,
    "layers.N.hc_ffn_scale": Role.SCALAR,
    "layers.N.attn.attn_sink": Role.SCALAR,
    "layers.N.attn.wq_a.weight": Role.MATRIX,
    "layers.N.attn.q_norm.weight": Role.SCALAR,
    "layers.N.attn.wq_b.weight": Role.MATRIX,
    "layers.N.attn.wkv.weight": Role.MATRIX,
    "layers.N.attn.kv_norm.weight": Role.SCALAR,
    "layers.N.attn.wo_a.weight": Role.MATRIX,
    "layers.N.attn.wo_b.weight": Role.MATRIX,
    "layers.N.attn.compressor.ape": Role.SCALAR,
    "layers.N.attn.compressor.wkv.weight": Role.MATRIX,
    "layers.N.attn.compressor.wgate.weight": Role.MATRIX,
    "layers.N.attn.compressor.norm.weight": Role.SCALAR,
    "layers.N.attn.indexer.wq_b.weight": Role.MATRIX,
    "layers.N.attn.indexer.weights_proj.weight": Role.MATRIX,
    "layers.N.attn.indexer.compressor.ape": Role.SCALAR,
    "layers.N.attn.indexer.compressor.wkv.weight": Role.MATRIX,
    "layers.N.attn.indexer.compressor.wgate.weight": Role.MATRIX,
    "layers.N.attn.indexer.compressor.norm.weight": Role.SCALAR,
    "layers.N.ffn.gate.weight": Role.MATRIX,
    "layers.N.ffn.experts.w1": Role.MATRIX,
    "layers.N.ffn.experts.w2": Role.MATRIX,
    "layers.N.ffn.experts.w3": Role.MATRIX,
    "layers.N.ffn.shared_experts.w1.weight": Role.MATRIX,
    "layers.N.ffn.shared_experts.w2.weight": Role.MATRIX,
    "layers.N.ffn.shared_experts.w3.weight": Role.MATRIX,
    "layers.N.engram.table.weight": Role.TABLE,
    "layers.N.engram.wkv.weight": Role.MATRIX,
    "layers.N.engram.q_norm.weight": Role.SCALAR,
    "layers.N.engram.k_norm.weight": Role.SCALAR,
}
BESIDE = {  # convolution of Engram v1, and what a predictor has of its own
    "layers.N.engram.conv.weight": Role.SCALAR,
    "layers.N.engram.conv_norm.weight": Role.SCALAR,
    "mtp.N.e_proj.weight": Role.MATRIX,
    "mtp.N.h_proj.weight": Role.MATRIX,
    "mtp.N.enorm.weight": Role.SCALAR,
    "mtp.N.hnorm.weight": Role.SCALAR,
    "mtp.N.norm.weight": Role.SCALAR,
    "mtp.N.hc_head_fn": Role.MATRIX,
    "mtp.N.hc_head_base": Role.SCALAR,
    "mtp.N.hc_head_scale": Role.SCALAR,
}


def parameters(config: ModelConfig) -> dict[str, torch.Size]:
    with torch.device("meta"):
        return {name: p.shape for name, p in Transformer(config).named_parameters()}


def roles(config: ModelConfig) -> dict[str, Role]:
    return {re.sub(r"\.\d+\.", ".N.", name): role(name) for name in parameters(config)}


def test_table_of_the_shipped_model() -> None:
    assert roles(xs()) == TABLE


def test_every_other_part() -> None:
    engram = EngramConfig(variant=EngramVariant.V1, layers=(1, 3), rows_per_head=97, head_dim=8)
    found = roles(xs().changed(engram=engram, num_nextn_predict_layers=1, compress_ratios=(0, 4, 128, 4, 128, 4, 0)))
    in_blocks = {name.replace("layers.", "mtp."): kind for name, kind in TABLE.items() if name.startswith("layers.")}
    expected = TABLE | BESIDE | {name: kind for name, kind in in_blocks.items() if name in found}
    assert found == expected


@pytest.mark.parametrize("config", [xs(), flash()], ids=["xs", "flash"])
def test_matrices_divide_their_parameter(config: ModelConfig) -> None:
    for name, shape in parameters(config).items():
        if role(name) is Role.MATRIX:
            assert len(shape) >= 2
            assert shape.numel() % (matrices(name, config) * shape[-1]) == 0


def test_logically_independent_matrices() -> None:
    config = xs()
    assert matrices("layers.2.ffn.experts.w2", config) == 8
    assert matrices("layers.0.attn.wo_a.weight", config) == 2
    assert matrices("layers.1.engram.wkv.weight", config) == 5
    assert matrices("layers.1.attn.wq_b.weight", config) == 1
    assert matrices("layers.1.ffn.shared_experts.w1.weight", config) == 1
    assert matrices("layers.1.ffn.gate.weight", config) == 1
