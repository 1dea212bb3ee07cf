"""What a layer holds on a GPU, and how it is taken from a `Transformer`.

Covers: weights of every part as tensors and maps, in the small formats where a checkpoint's values are exactly those of
FP8 tiles or FP4 groups again. Does not cover: running them (`forward`), models that the kernels cannot run (`missing`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from octavo.kernels.engram_lookup import HashPlan
from octavo.kernels.experts.weights import ExpertFormat, ExpertWeights
from octavo.kernels.quant import (
    fp4_pack,
    fp4_unpack,
    fp8_dequantize_blocks,
    fp8_quantize_blocks,
)
from octavo.model.attention import Attention
from octavo.model.block import Block
from octavo.model.compressor import Compressor
from octavo.model.engram import Engram
from octavo.model.gpu.maps import Map
from octavo.model.moe import MoE
from octavo.model.mtp import MTP
from octavo.model.transformer import Transformer

Encode = Callable[[Tensor], tuple[Tensor, Tensor] | None]
_TILE = 128  # both sides of an FP8 tile; FP4 matrices are read in steps of as many channels


@dataclass(frozen=True)
class Mixing:
    """Weights of one read or write of the streams: fn [N, M D], base [N], scale, gain [D], FP32."""

    fn: Tensor
    base: Tensor
    scale: Tensor
    gain: Tensor


@dataclass(frozen=True)
class CompressorWeights:
    """Position bias FP32 [ratio, w], norm gain [K], and the columns 2 w that the raw rows take of `beside`."""

    bias: Tensor
    gain: Tensor
    columns: int


@dataclass(frozen=True)
class AttentionWeights:
    """inward: rows of wq_a, then wkv. beside: rows of the compressor's values and scores, of the indexer's compressor,
    and of the indexer's head weights, as far as the layer has them; its product is kept in FP32."""

    inward: Map
    q_gain: Tensor
    queries: Map
    kv_gain: Tensor
    sink: Tensor
    out_a: Map
    out_b: Map
    beside: Map | None = None
    main: CompressorWeights | None = None
    index: CompressorWeights | None = None
    index_queries: Map | None = None


@dataclass(frozen=True)
class ExpertLayer:
    """gate [X, D] and bias [X] FP32 of a learned choice, or `by_token` [V, A]; routed and shared experts."""

    gate: Tensor
    bias: Tensor | None
    by_token: Tensor | None
    routed: ExpertWeights
    shared: ExpertWeights


@dataclass(frozen=True)
class EngramWeights:
    """Table [R, d], its addresses, the map to keys and value, and gains [M, D]."""

    table: Tensor
    plan: HashPlan
    wkv: Map
    q_gain: Tensor
    k_gain: Tensor


@dataclass(frozen=True)
class LayerWeights:
    """One block; `ratio` 0 sees the window only."""

    ratio: int
    attention_in: Mixing
    attention: AttentionWeights
    experts_in: Mixing
    experts: ExpertLayer
    engram: EngramWeights | None = None


@dataclass(frozen=True)
class ModelWeights:
    """All of a model: embedding [V, D], layers, the head's mixing and map, Engram's vocabulary [V] or None."""

    embedding: Tensor
    layers: tuple[LayerWeights, ...]
    merge: Mixing
    head: Map
    vocabulary: Tensor | None = None

    @property
    def biases(self) -> dict[tuple[int, str], Tensor]:
        """The position bias of every compressor, by layer and the kind of store that it fills."""
        return {
            (number, kind): made.bias
            for number, layer in enumerate(self.layers)
            for kind, made in (("main", layer.attention.main), ("index", layer.attention.index))
            if made is not None
        }


@dataclass(frozen=True)
class StageWeights:
    """A stage of the predictor: gains [D] and maps of the embedding and of the streams, its block, the mixing of its
    end; embedding and head are the model's."""

    e_gain: Tensor
    h_gain: Tensor
    e_map: Map
    h_map: Map
    layer: LayerWeights
    merge: Mixing


@torch.no_grad()
def take(net: Transformer, dtype: torch.dtype) -> ModelWeights:
    """The weights of `net`, on its device, for activations in `dtype` (BF16 or FP32).

    In BF16 a matrix whose values are exactly those of FP8 tiles is kept in FP8, and experts in FP4 or FP8 likewise:
    that is so where the checkpoint held them in these formats, so nothing is rounded. What is kept wide shares memory
    with `net` where the dtype is the same.
    """
    make = _maker(net, dtype)
    return ModelWeights(
        embedding=net.embed.weight.to(dtype),
        layers=tuple(_layer(block, make) for block in net.layers if isinstance(block, Block)),
        merge=_mixing(net, "head", net.norm.weight),
        head=Map(net.head.weight.to(dtype)),
        vocabulary=net.get_buffer("engram_map") if net.config.engram is not None else None,
    )


@torch.no_grad()
def take_stage(net: Transformer, dtype: torch.dtype) -> StageWeights:
    """The weights of the first MTP stage of `net`, as `take` takes those of the model."""
    stage, make = net.mtp[0], _maker(net, dtype)
    assert isinstance(stage, MTP), "the model's draft stages are no MTP blocks"
    return StageWeights(
        e_gain=stage.enorm.weight.float(),
        h_gain=stage.hnorm.weight.float(),
        e_map=make.map(stage.e_proj.weight),
        h_map=make.map(stage.h_proj.weight),
        layer=_layer(stage, make),
        merge=_mixing(stage, "head", stage.norm.weight),
    )


def _maker(net: Transformer, dtype: torch.dtype) -> _Maker:
    return _Maker(dtype, small=dtype == torch.bfloat16, rounded=net.config.quant_sim)


@dataclass(frozen=True)
class _Maker:
    dtype: torch.dtype
    small: bool
    rounded: bool

    def map(self, *weights: Tensor, groups: int = 1) -> Map:
        """The rows of all weights as one map; FP8 where all of their values are."""
        joined = torch.cat(weights)
        aligned = all(w.shape[0] % _TILE == 0 for w in weights) and joined.shape[1] % _TILE == 0
        if self.small and aligned:
            parts = [part for part in map(_as_fp8, weights) if part is not None]
            if len(parts) == len(weights):
                codes, scales = torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])
                return Map(codes, scales, groups=groups, rounded=self.rounded and groups == 1)
        return Map(joined.to(self.dtype).contiguous(), groups=groups)

    def experts(self, w1: Tensor, w3: Tensor, w2: Tensor) -> ExpertWeights:
        """w1 and w3 [X, F, D], w2 [X, D, F] in the smallest format that holds them exactly."""
        if self.small and w1.shape[1] % _TILE == 0 and w1.shape[2] % _TILE == 0:
            forms: tuple[tuple[ExpertFormat, Encode], ...] = (("fp4", _as_fp4), ("fp8", _as_fp8))
            for form, encode in forms:
                stacks = [stack for stack in (_stacked(w, encode) for w in (w1, w3, w2)) if stack is not None]
                if len(stacks) == 3:
                    (a, sa), (b, sb), (c, sc) = stacks
                    return ExpertWeights(format=form, w1=a, w3=b, w2=c, s1=sa, s3=sb, s2=sc)
        a, b, c = (w.to(self.dtype).contiguous() for w in (w1, w3, w2))
        return ExpertWeights(format="bf16", w1=a, w3=b, w2=c)


def _as_fp8(w: Tensor) -> tuple[Tensor, Tensor] | None:
    """Codes and scales of w [O, N] if decoding them gives w again."""
    codes, scale = fp8_quantize_blocks(w)
    same = torch.equal(fp8_dequantize_blocks(codes, scale), w.float())
    return (codes.view(torch.uint8), scale) if same else None


def _as_fp4(w: Tensor) -> tuple[Tensor, Tensor] | None:
    codes, scale = fp4_pack(w)
    return (codes, scale) if torch.equal(fp4_unpack(codes, scale), w.float()) else None


def _stacked(w: Tensor, encode: Encode) -> tuple[Tensor, Tensor] | None:
    """All experts' codes and scales, stacked; None as soon as one of them has none."""
    codes, scales = [], []
    for one in w:
        made = encode(one)
        if made is None:
            return None
        codes.append(made[0])
        scales.append(made[1])
    return torch.stack(codes), torch.stack(scales)


def _layer(block: Block, make: _Maker) -> LayerWeights:
    return LayerWeights(
        ratio=block.ratio,
        attention_in=_mixing(block, "attn", block.attn_norm.weight),
        attention=_attention(block.attn, make),
        experts_in=_mixing(block, "ffn", block.ffn_norm.weight),
        experts=_experts(block.ffn, make),
        engram=_engram(block.engram, make) if block.has_engram else None,
    )


def _mixing(block: nn.Module, name: str, gain: Tensor) -> Mixing:
    """Of a block's `attn` or `ffn`, or of the `head` of a model or a stage."""
    fn, base, scale = (getattr(block, f"hc_{name}_{part}").float() for part in ("fn", "base", "scale"))
    return Mixing(fn, base, scale, gain.float())


def _attention(given: Attention, make: _Maker) -> AttentionWeights:
    beside, main, index, queries = [], None, None, None
    if given.ratio:
        beside += [given.compressor.wkv.weight, given.compressor.wgate.weight]
        main = _compressor(given.compressor)
    if hasattr(given, "indexer"):
        small = given.indexer.compressor
        beside += [small.wkv.weight, small.wgate.weight, given.indexer.weights_proj.weight]
        index, queries = _compressor(small), make.map(given.indexer.wq_b.weight)
    return AttentionWeights(
        inward=make.map(given.wq_a.weight, given.wkv.weight),
        q_gain=given.q_norm.weight.float(),
        queries=make.map(given.wq_b.weight),
        kv_gain=given.kv_norm.weight.float(),
        sink=given.attn_sink.float(),
        out_a=make.map(given.wo_a.weight, groups=given.groups),
        out_b=make.map(given.wo_b.weight),
        beside=Map(torch.cat(beside).to(make.dtype)) if beside else None,
        main=main,
        index=index,
        index_queries=queries,
    )


def _compressor(given: Compressor) -> CompressorWeights:
    return CompressorWeights(given.ape.float().contiguous(), given.norm.weight.float(), 2 * given.ape.shape[1])


def _experts(given: MoE, make: _Maker) -> ExpertLayer:
    gate, shared = given.gate, given.shared_experts
    one = [part.weight.unsqueeze(0) for part in (shared.w1, shared.w3, shared.w2)]
    return ExpertLayer(
        gate=gate.weight.to(make.dtype).contiguous(),
        bias=None if gate.hashed else gate.get_buffer("bias").float(),
        by_token=gate.get_buffer("tid2eid") if gate.hashed else None,
        routed=make.experts(given.experts.w1, given.experts.w3, given.experts.w2),
        shared=make.experts(*one),
    )


def _engram(given: Engram, make: _Maker) -> EngramWeights:
    return EngramWeights(
        table=given.table.weight.to(make.dtype),
        plan=given.plan,
        wkv=make.map(given.wkv.weight),
        q_gain=given.q_norm.weight.float(),
        k_gain=given.k_norm.weight.float(),
    )
