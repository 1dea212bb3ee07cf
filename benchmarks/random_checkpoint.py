"""A checkpoint of random weights in the release's geometry and formats, of the size that is asked for.

Covers: `v4_config`, DeepSeek-V4's pattern of layers at half of Flash's width with as many layers as the size needs, and
`write_random`, its files as the release has them: FP4 experts, FP8 dense weights, a shard for each layer. Tensors are
made one at a time. Does not cover: tokenizers, weights that mean anything.

    python -m benchmarks.random_checkpoint FOLDER [--size 1GB] [--skew 0.0]
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from math import log2
from pathlib import Path

import torch
from torch import Tensor

from octavo.config.counts import count, stored_tensors
from octavo.config.errors import UsageError
from octavo.config.model import ModelConfig, QuantizationConfig, YarnConfig
from octavo.config.sizes import parse_bytes
from octavo.config.tensors import Part
from octavo.model.checkpoint.folder import INDEX
from octavo.model.checkpoint.shard import Unit, write_shard
from octavo.model.init import hash_table

LEAST_LAYERS = 4
_FP4_RMS = (8.5625) ** 0.5  # of the eight magnitudes, each equally often
_FP8_EXPONENTS = (0x28, 0x40)  # e4m3 codes between 2^-2 and 2: no value dwarfs the others


def v4_config(size_bytes: int, *, experts: int = 64, hidden: int = 2048, inner: int = 1024) -> ModelConfig:
    """Window, hash-routed and CSA layers in the release's order, so many that the files take about `size_bytes`.

    UsageError for a size that does not reach `LEAST_LAYERS` layers.
    """

    def of(layers: int) -> ModelConfig:
        return ModelConfig(
            vocab_size=4096,
            hidden_size=hidden,
            num_hidden_layers=layers,
            compress_ratios=tuple((0, 0, *(4, 128) * layers)[:layers]),
            num_attention_heads=16,
            head_dim=128,
            qk_rope_head_dim=32,
            q_lora_rank=512,
            o_groups=4,
            o_lora_rank=256,
            index_n_heads=8,
            index_head_dim=64,
            index_topk=256,
            n_routed_experts=experts,
            num_experts_per_tok=6,
            moe_intermediate_size=inner,
            num_hash_layers=2,
            routed_scaling_factor=1.5,
            rope_scaling=YarnConfig(),
            max_position_embeddings=65536,
            pad_token_id=2,
            expert_dtype="fp4",
            quantization=QuantizationConfig(),
        )

    least = of(LEAST_LAYERS)
    if size_bytes < count(least).bytes:
        raise UsageError(f"size is {size_bytes:,} bytes; {LEAST_LAYERS} layers take {count(least).bytes:,}")
    each = count(of(LEAST_LAYERS + 2)).bytes - count(least).bytes
    return of(LEAST_LAYERS + round(2 * (size_bytes - count(least).bytes) / each))


def write_random(folder: Path, config: ModelConfig, *, seed: int = 0, skew: float = 0.0) -> Path:
    """`config.json`, shards and index. `skew`: standard deviation of the routers' selection bias: 0 lets tokens choose
    experts about equally often, more makes some of them favourites."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(config.to_json(), encoding="utf-8")
    generator, places = torch.Generator().manual_seed(seed), {}
    shards = list(_by_shard(config))
    for number, tensors in enumerate(shards, start=1):
        file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        units = [
            Unit(tensors=((name, tag, shape),), make=partial(_made, name, tag, shape, config, generator, skew))
            for name, (tag, shape) in tensors.items()
        ]
        write_shard(folder / file, units)
        places |= dict.fromkeys(tensors, file)
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": places}), encoding="utf-8")
    return folder


def expert_bytes(config: ModelConfig) -> int:
    """Bytes of one routed expert as stored, with scales."""
    layers = config.num_hidden_layers
    return count(config).bytes_by_part[Part.EXPERTS.value] // (layers * config.n_routed_experts)


def _by_shard(config: ModelConfig) -> Iterator[dict[str, tuple[str, tuple[int, ...]]]]:
    groups: dict[str, dict[str, tuple[str, tuple[int, ...]]]] = defaultdict(dict)
    for name, stored in stored_tensors(config).items():
        groups[".".join(name.split(".")[:2]) if name.startswith("layers.") else "rest"][name] = stored
    yield from groups.values()


def _made(
    name: str, tag: str, shape: tuple[int, ...], config: ModelConfig, generator: torch.Generator, skew: float
) -> tuple[Tensor, ...]:
    """One tensor, values of about unit gain; scales are those that the codes of `_codes` need."""

    def normal(std: float) -> Tensor:
        return torch.randn(shape, generator=generator) * std

    if name.endswith("tid2eid"):
        return (hash_table(config, layer=int(name.split(".")[1]), seed=0),)
    if tag == "F8_E8M0":
        of_experts = ".experts." in name
        width = shape[1] * (32 if of_experts else 128)
        exponent = round(log2(width**-0.5 / (_FP4_RMS if of_experts else 1.0)))
        return (torch.full(shape, 127 + exponent, dtype=torch.uint8).view(torch.float8_e8m0fnu),)
    if tag in ("I8", "F8_E4M3"):
        return (_codes(tag, shape, generator),)
    if name.endswith("norm.weight"):
        value = torch.ones(shape)
    elif name.endswith("gate.bias"):
        value = normal(skew)
    elif name.endswith(("_base", "attn_sink", ".ape", "_scale")):
        value = normal(0.5)
    else:
        value = normal(1.0 if name == "embed.weight" else shape[-1] ** -0.5)
    return (value.to(torch.bfloat16 if tag == "BF16" else torch.float32),)


def _codes(tag: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    if tag == "I8":
        return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8).view(torch.int8)
    low, high = _FP8_EXPONENTS
    sign = torch.randint(0, 2, shape, generator=generator, dtype=torch.uint8) << 7
    magnitude = torch.randint(low, high, shape, generator=generator, dtype=torch.uint8)
    return (sign | magnitude).view(torch.float8_e4m3fn)


def main() -> None:
    """Parse and write."""
    parser = argparse.ArgumentParser(description="A random checkpoint in the release's geometry and formats.")
    parser.add_argument("folder", type=Path, help="a folder that is not there yet")
    parser.add_argument("--size", default="1GB", help="of the files, about")
    parser.add_argument("--skew", type=float, default=0.0, help="how far routers prefer some experts")
    arguments = parser.parse_args()
    config = v4_config(parse_bytes(arguments.size, name="--size"))
    write_random(arguments.folder, config, skew=arguments.skew)
    found = count(config)
    print(f"{arguments.folder}: {config.num_hidden_layers} layers, {found.total:,} parameters, {found.bytes:,} bytes")


if __name__ == "__main__":
    main()
