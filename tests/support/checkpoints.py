"""Checkpoint folders made without our writer, in the exact stored formats. Covers: official tensors (BF16, FP8, FP4),
the Hugging Face layout in FP8, sharding with an index, damage. Does not cover: random values (`tiny.py`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from octavo.config.counts import stored_tensors
from octavo.config.model import ModelConfig, QuantizationConfig
from octavo.kernels import quant
from tests.support.tiny import random_tensors, tiny_config

INDEX = "model.safetensors.index.json"


def stored_config(**overrides: Any) -> ModelConfig:
    """A tiny model whose matrices span several 128x128 tiles with ragged ends; FP8 and FP4 unless overridden."""
    fields: dict[str, Any] = {
        "compress_ratios": (0, 4, 128),
        "num_hidden_layers": 3,
        "vocab_size": 150,
        "hidden_size": 160,
        "moe_intermediate_size": 96,
        "n_routed_experts": 3,
        "quantization": QuantizationConfig(),
        "expert_dtype": "fp4",
    }
    return tiny_config(**(fields | overrides))


def official_tensors(config: ModelConfig, seed: int = 0) -> dict[str, Tensor]:
    """Every tensor of an official checkpoint of `config`, in its stored dtype, with `.scale` siblings in e8m0."""
    tags = {"BF16": torch.bfloat16, "F32": torch.float32, "I64": torch.int64}
    table = stored_tensors(config)
    out: dict[str, Tensor] = {}
    for name, value in random_tensors(config, seed).items():
        tag = table[name][0]
        if tag in tags:
            out[name] = value.to(tags[tag])
            continue
        packed, scale = (quant.fp4_pack if tag == "I8" else quant.fp8_quantize_blocks)(value)
        out[name], out[name.removesuffix(".weight") + ".scale"] = packed, scale.view(torch.float8_e8m0fnu)
    return out


def dequantised(tensors: Mapping[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """The weights of official tensors as transformers' own dequantiser gives them; experts single, scales gone."""
    from transformers.integrations.finegrained_fp8 import Fp8Dequantize

    def weight(value: Tensor, scale: Tensor) -> Tensor:
        width = value.shape[1] * (2 if value.dtype == torch.int8 else 1)
        block = 1 if value.dtype == torch.int8 else 128
        rows, columns = -(-value.shape[0] // block) * block, -(-width // 128) * 128 if block == 128 else width
        room = torch.zeros(rows, columns * value.shape[1] // width, dtype=torch.uint8)  # it takes whole tiles only
        room[: value.shape[0], : value.shape[1]] = value.view(torch.uint8)
        whole = Fp8Dequantize(None)._dequantize_one(room.view(value.dtype), scale, dtype)
        return whole[: value.shape[0], :width]

    out = {}
    for name, value in tensors.items():
        if not name.endswith(".scale"):
            scale = tensors.get(name.removesuffix(".weight") + ".scale")
            out[name] = value if scale is None else weight(value, scale)
    return out


def write_folder(folder: Path, config: ModelConfig, tensors: Mapping[str, Tensor], shards: int = 1) -> Path:
    """`config.json` and the tensors: one `model.safetensors`, or dealt out to several shards with an index."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(config.to_json(), encoding="utf-8")
    if shards == 1:
        save_file(dict(tensors), folder / "model.safetensors")
        return folder
    places = {}
    for shard in range(shards):
        file = f"model-{shard + 1:05d}-of-{shards:05d}.safetensors"
        part = {name: tensors[name] for at, name in enumerate(sorted(tensors)) if at % shards == shard}
        save_file(part, folder / file)
        places |= dict.fromkeys(part, file)
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": places}), encoding="utf-8")
    return folder
