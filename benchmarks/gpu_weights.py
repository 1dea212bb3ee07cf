"""Random weights of any geometry in the formats of the official checkpoints, made on the GPU itself, and a cache filled
with random entries: what `benchmarks.gpu_slice` runs on.

Covers: FP8 maps, FP4 experts, BF16 for the rest, entries whose every byte pattern is a finite number. Does not cover:
any meaning: a random router spreads tokens evenly over the experts, which is the most that weights can cost.
"""

from __future__ import annotations

import torch
from torch import Tensor

from octavo.cache import codec
from octavo.cache.pool import PagePool
from octavo.config.model import CSA_RATIO, ModelConfig
from octavo.kernels.experts.weights import ExpertWeights
from octavo.model.gpu.maps import Map
from octavo.model.gpu.weights import (
    AttentionWeights,
    CompressorWeights,
    ExpertLayer,
    LayerWeights,
    Mixing,
    ModelWeights,
)

_TILE, _GROUP = 128, 32
_BLOCK = 4096  # entries drawn; the rest of a store repeats them


class Draw:
    """Tensors from one generator."""

    def __init__(self, device: torch.device, seed: int = 0) -> None:
        self.device, self._generator = device, torch.Generator(device).manual_seed(seed)

    def normal(self, *shape: int, std: float, dtype: torch.dtype = torch.float32) -> Tensor:
        """Normal values."""
        return torch.randn(*shape, generator=self._generator, device=self.device).mul_(std).to(dtype)

    def bytes(self, *shape: int) -> Tensor:
        """Uniform bytes."""
        return torch.randint(0, 256, shape, generator=self._generator, device=self.device, dtype=torch.uint8)

    def ids(self, *shape: int, below: int) -> Tensor:
        """Uniform ids, int64."""
        return torch.randint(0, below, shape, generator=self._generator, device=self.device)

    def fp8(self, out: int, width: int, *, groups: int = 1, rounded: bool = True) -> Map:
        """A map in FP8, values of about 1 / sqrt(width)."""
        codes = self.normal(out, width, std=64.0).to(torch.float8_e4m3fn).view(torch.uint8)
        shift = 6 + round(0.5 * (width - 1).bit_length())
        scale = torch.full((-(-out // _TILE), width // _TILE), 127 - shift, dtype=torch.uint8, device=self.device)
        return Map(codes, scale, groups=groups, rounded=rounded and groups == 1)

    def experts(self, count: int, inner: int, width: int, form: str) -> ExpertWeights:
        """Experts in FP4 or FP8."""
        made: dict[str, Tensor] = {}
        for name, out, into in (("1", inner, width), ("3", inner, width), ("2", width, inner)):
            shift = round(0.5 * (into - 1).bit_length())
            if form == "fp4":
                made["w" + name] = self.bytes(count, out, into // 2)
                scale, shape = 127 - 2 - shift, (count, out, into // _GROUP)
            else:
                codes = self.normal(count, out, into, std=64.0).to(torch.float8_e4m3fn)
                made["w" + name] = codes.view(torch.uint8)
                scale, shape = 127 - 6 - shift, (count, -(-out // _TILE), into // _TILE)
            made["s" + name] = torch.full(shape, scale, dtype=torch.uint8, device=self.device)
        return ExpertWeights(format=form, **made)  # pyright: ignore[reportArgumentType]


def random_weights(config: ModelConfig, device: torch.device, seed: int = 0) -> ModelWeights:
    """Weights of every layer of `config`, routed experts in FP4, other large maps in FP8, the rest in BF16 or FP32."""
    draw, D = Draw(device, seed), config.hidden_size
    layers = [_layer(config, draw, ratio, number) for number, ratio in enumerate(config.layer_ratios)]
    return ModelWeights(
        embedding=draw.normal(config.vocab_size, D, std=1.0, dtype=torch.bfloat16),
        layers=tuple(layers),
        merge=_mixing(draw, config, config.hc_mult, 1),
        head=Map(draw.normal(config.vocab_size, D, std=D**-0.5, dtype=torch.bfloat16)),
    )


def _mixing(draw: Draw, config: ModelConfig, rows: int, scales: int) -> Mixing:
    width = config.hc_mult * config.hidden_size
    ones = torch.ones(config.hidden_size, device=draw.device)
    return Mixing(
        draw.normal(rows, width, std=width**-0.5), draw.normal(rows, std=0.1),
        torch.ones(scales, device=draw.device), ones,
    )  # fmt: skip


def _layer(config: ModelConfig, draw: Draw, ratio: int, number: int) -> LayerWeights:
    rows = config.hc_mult * (2 + config.hc_mult)
    D, F, X = config.hidden_size, config.moe_intermediate_size, config.n_routed_experts
    hashed = config.is_hash_layer(number)
    experts = ExpertLayer(
        gate=draw.normal(X, D, std=D**-0.5, dtype=torch.bfloat16),
        bias=None if hashed else torch.zeros(X, device=draw.device),
        by_token=draw.ids(config.vocab_size, config.num_experts_per_tok, below=X) if hashed else None,
        routed=draw.experts(X, F, D, "fp4"),
        shared=draw.experts(1, config.shared_intermediate_size, D, "fp8"),
    )
    return LayerWeights(
        ratio=ratio,
        attention_in=_mixing(draw, config, rows, 3),
        attention=_attention(config, draw, ratio),
        experts_in=_mixing(draw, config, rows, 3),
        experts=experts,
    )


def _attention(config: ModelConfig, draw: Draw, ratio: int) -> AttentionWeights:
    H, K, D, latent = config.num_attention_heads, config.head_dim, config.hidden_size, config.q_lora_rank
    J, beside, main, index, queries = config.index_head_dim, 0, None, None, None
    if ratio:
        main = _compressor(draw, ratio, K)
        beside += main.columns
    if ratio == CSA_RATIO:
        index, queries = _compressor(draw, ratio, J), draw.fp8(config.index_n_heads * J, latent)
        beside += index.columns + config.index_n_heads
    groups, ranks = config.o_groups, config.o_groups * config.o_lora_rank
    return AttentionWeights(
        inward=draw.fp8(latent + K, D),
        q_gain=torch.ones(latent, device=draw.device),
        queries=draw.fp8(H * K, latent),
        kv_gain=torch.ones(K, device=draw.device),
        sink=torch.zeros(H, device=draw.device),
        out_a=draw.fp8(ranks, config.group_width, groups=groups),
        out_b=draw.fp8(D, ranks),
        beside=Map(draw.normal(beside, D, std=D**-0.5, dtype=torch.bfloat16)) if beside else None,
        main=main,
        index=index,
        index_queries=queries,
    )


def _compressor(draw: Draw, ratio: int, width: int) -> CompressorWeights:
    raw = width * (2 if ratio == CSA_RATIO else 1)
    return CompressorWeights(draw.normal(ratio, raw, std=0.1), torch.ones(width, device=draw.device), 2 * raw)


def fill_entries(pool: PagePool, seed: int = 0) -> None:
    """Random entries in every page of the pool's slab."""
    slab, draw = pool.first_slab(), Draw(pool.device, seed)
    for key, spec in pool.specs.items():
        rows = slab.rows(key)
        values = draw.normal(min(_BLOCK, len(rows)), spec.width, std=1.0)
        some = codec.encode(values, format=spec.format, kind=spec.kind, rope_dims=pool.layout.rope_dims)
        for at in range(0, len(rows), len(some)):
            part = rows[at : at + len(some)]
            part.copy_(some[: len(part)])
