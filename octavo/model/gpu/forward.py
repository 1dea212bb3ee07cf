"""One step of packed tokens on a GPU: everything that a decoding step, a verification or a chunk of a long text runs.

Covers: `GpuModel`, whole and by blocks. Nothing on the device sets a size and nothing is copied to the host, so that a
step of few tokens can be captured in a graph; sizes come from the tensors of `Step` and from the page tables. Does not
cover: graphs, pages, which sequence is where (`octavo.engine.gpu`), the predictor (`stage`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from octavo.cache.slots import ChunkRing, LayerSlots
from octavo.config.model import CSA_RATIO, ModelConfig
from octavo.kernels.cache_write.triton import cache_write, rotate_out
from octavo.kernels.compress.triton import compress
from octavo.kernels.engram_lookup import triton as engram
from octavo.kernels.experts.triton import experts
from octavo.kernels.experts.triton_fp8 import experts_fp8
from octavo.kernels.hadamard.triton import rotate_transform
from octavo.kernels.hyper import triton as hyper
from octavo.kernels.index_topk.triton import topk
from octavo.kernels.paged import Places
from octavo.kernels.rmsnorm.triton import rmsnorm
from octavo.kernels.route.triton import route
from octavo.kernels.sparse_attention.triton import attend, format_of
from octavo.model.gpu.maps import FEW
from octavo.model.gpu.weights import (
    AttentionWeights,
    CompressorWeights,
    EngramWeights,
    LayerWeights,
    Mixing,
    ModelWeights,
)
from octavo.model.rotary import Rotary, Table

Pending = tuple[Tensor, Tensor, Tensor]
"""What a sublayer made [T, D], and post and comb of its write, which the next read does on its way."""


@dataclass(frozen=True)
class Step:
    """Packed tokens int64 [T] and their places. `recent` int64 [T, n]: each token and those before it, newest first, as
    Engram hashes them (None without Engram). `most`: tokens that one sequence has at most."""

    tokens: Tensor
    places: Places
    most: int
    recent: Tensor | None = None


class Seen(NamedTuple):
    """Attention mass of a compressed layer: FP32 [T, n] for the entries `picks` [T, n], or for entries 0 .. n - 1."""

    layer: int
    mass: Tensor
    picks: Tensor | None

    def first(self, count: int) -> Seen:
        """That of the first `count` tokens."""
        return Seen(self.layer, self.mass[:count], None if self.picks is None else self.picks[:count])


class Tables(NamedTuple):
    """Angles of window layers and of compressed ones."""

    window: Table
    compressed: Table


class GpuModel:
    """Runs `weights` of a model of `config`; activations in `dtype` (BF16; FP32 for checks)."""

    def __init__(self, config: ModelConfig, weights: ModelWeights, *, dtype: torch.dtype = torch.bfloat16) -> None:
        self.config, self.weights, self.dtype = config, weights, dtype
        self._rotary = Rotary(config)
        self._frequencies = self._rotary.frequencies(CSA_RATIO, weights.embedding.device)

    @torch.inference_mode()
    def forward(
        self, step: Step, cache: Sequence[LayerSlots], *, chunk: ChunkRing | None = None, seen: list[Seen] | None = None
    ) -> Tensor:
        """Read the tokens into the cache -> streams [T, M, D] after the last block. `chunk`: one sequence's window rows
        go through it. `seen` collects the attention mass of compressed layers."""
        w, config = self.weights, self.config
        tables = self.tables(step.places.position)
        x = F.embedding(step.tokens, w.embedding)
        streams = x.unsqueeze(1).expand(-1, config.hc_mult, -1).contiguous()
        pending: Pending | None = None
        for number, layer in enumerate(w.layers):
            if layer.engram is not None:
                streams, pending = self.written(streams, pending), None
                streams = self._engram(streams, layer.engram, step)
            streams, pending = self.block(streams, pending, number, layer, step, tables, cache[number], chunk, seen)
        return self.written(streams, pending)

    def block(
        self, streams: Tensor, pending: Pending | None, number: int, layer: LayerWeights, step: Step, tables: Tables,
        cache: LayerSlots, chunk: ChunkRing | None = None, seen: list[Seen] | None = None,
    ) -> tuple[Tensor, Pending]:  # fmt: skip
        """One block without Engram: streams [T, M, D] and what is pending on them before -> the same behind it."""
        streams, x, post, comb = self._begin(streams, pending, layer.attention_in)
        y = self._attention(x, number, layer, step, tables, cache, chunk, seen)
        streams, x, post, comb = self._begin(streams, (y, post, comb), layer.experts_in)
        return streams, (self._experts(x, layer, step), post, comb)

    @torch.inference_mode()
    def logits(self, streams: Tensor, merge: Mixing | None = None) -> Tensor:
        """Streams [R, M, D] -> logits FP32 [R, V]; `merge` takes the place of the model's own."""
        m = self.weights.merge if merge is None else merge
        eps, norm_eps = self.config.hc_eps, self.config.rms_norm_eps
        hidden = hyper.merge(streams.contiguous(), m.fn, m.base, m.scale, m.gain, eps=eps, norm_eps=norm_eps)
        return self.weights.head(hidden, torch.float32)

    def tables(self, position: Tensor) -> Tables:
        """Angles of the tokens at `position` [T]; padding is below 0."""
        at = position.clamp_min(0)
        return Tables(*(self._rotary.table(at, ratio, self.dtype) for ratio in (0, CSA_RATIO)))

    def written(self, streams: Tensor, pending: Pending | None) -> Tensor:
        """Streams [T, M, D] with what was pending on them."""
        return streams if pending is None else hyper.write(streams, *pending)

    def _begin(self, streams: Tensor, pending: Pending | None, m: Mixing) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What is pending is written, then the next sublayer reads -> streams, x, post, comb."""
        c = self.config
        rules = {"iters": c.hc_sinkhorn_iters, "eps": c.hc_eps, "norm_eps": c.rms_norm_eps}
        if pending is None:
            return (streams, *hyper.enter(streams, m.fn, m.base, m.scale, m.gain, **rules))
        return hyper.cross(streams, *pending, m.fn, m.base, m.scale, m.gain, **rules)

    def _engram(self, streams: Tensor, w: EngramWeights, step: Step) -> Tensor:
        T, M, D = streams.shape
        assert step.recent is not None
        assert self.weights.vocabulary is not None
        memory = engram.lookup(self.weights.vocabulary[step.recent], w.table, w.plan)[0]
        keys, value = w.wkv(memory).split((M * D, D), dim=-1)
        gate = engram.gate(streams, keys.reshape(T, M, D), w.q_gain, w.k_gain, self.config.rms_norm_eps)
        return streams + (gate.unsqueeze(-1) * value.unsqueeze(1).float()).to(streams.dtype)

    def _attention(
        self, x: Tensor, number: int, layer: LayerWeights, step: Step, tables: Tables, cache: LayerSlots,
        chunk: ChunkRing | None, seen: list[Seen] | None,
    ) -> Tensor:  # fmt: skip
        c, w = self.config, layer.attention
        (cos, sin), eps = tables.compressed if layer.ratio else tables.window, c.rms_norm_eps
        latent, kv = w.inward(x).split((c.q_lora_rank, c.head_dim), dim=-1)
        latent = rmsnorm(latent.contiguous(), w.q_gain, eps)
        q = w.queries(latent).view(-1, c.num_attention_heads, c.head_dim)
        form, rope = format_of(cache.ring, None, c.head_dim)
        ring = cache.ring if chunk is None else chunk.enter(cache.ring)
        q = cache_write(q, kv.contiguous(), w.kv_gain, cos, sin, ring, step.places, eps=eps, format=form, rope=rope,
                        out=q)  # fmt: skip
        picks = self._entries(x, latent, w, cache, step, (cos, sin))
        o, mass = attend(q, ring, w.sink, cache.stores.get("main"), step.places, picks=picks, window=c.sliding_window,
                         scale=c.head_dim**-0.5, mass=seen is not None and layer.ratio > 0)  # fmt: skip
        if chunk is not None:
            chunk.leave(cache.ring)
        if seen is not None and mass is not None:
            seen.append(Seen(number, mass, picks))
        o = rotate_out(o, cos, sin, out=o)
        return w.out_b(w.out_a(o.view(o.shape[0], c.o_groups, -1) if c.o_groups > 1 else o.flatten(1)))

    def _entries(
        self, x: Tensor, latent: Tensor, w: AttentionWeights, cache: LayerSlots, step: Step, table: Table
    ) -> Tensor | None:
        """New entries of a compressed layer are made and stored -> the entries each token chose, int32 [T, k]; None
        where all are seen."""
        if w.beside is None or w.main is None:
            return None
        made = w.beside(x, torch.float32)
        self._compress(made[:, : w.main.columns], w.main, "main", cache, step)
        if w.index is None or w.index_queries is None:
            return None
        stop = w.main.columns + w.index.columns
        self._compress(made[:, w.main.columns : stop], w.index, "index", cache, step)
        c = self.config
        q = w.index_queries(latent).view(-1, c.index_n_heads, c.index_head_dim)
        q, keys = rotate_transform(q, *table, fp4=c.quant_sim), cache.stores["index"]
        exact = c.quant_sim and q.is_cuda and q.dtype == torch.bfloat16 and keys.format in ("fp8", "fp4")
        # The heads' weights have one common factor, which changes no order.
        return topk(q, made[:, stop:].contiguous(), keys, step.places, k=c.index_topk, fp8=exact)

    def _compress(self, raw: Tensor, w: CompressorWeights, kind: str, cache: LayerSlots, step: Step) -> None:
        overlap = cache.stores[kind].ratio == CSA_RATIO
        compress(raw.contiguous(), w.bias, cache.partial[kind], w.gain, self._frequencies, cache.stores[kind],
                 step.places, overlap=overlap, eps=self.config.rms_norm_eps, hadamard=kind == "index",
                 most=step.most)  # fmt: skip

    def _experts(self, x: Tensor, layer: LayerWeights, step: Step) -> Tensor:
        c, w = self.config, layer.experts
        rows = None if w.by_token is None else w.by_token[step.tokens]
        routing = route(x, w.gate, top=c.num_experts_per_tok, scale=c.routed_scaling_factor,
                        normalise=c.norm_topk_prob, bias=w.bias, table_rows=rows)  # fmt: skip
        small = not (w.routed.dense or w.shared.dense)
        rounded = c.quant_sim and small and x.is_cuda and x.shape[0] > FEW
        body = experts_fp8 if rounded else experts
        return body(x, w.routed, routing.experts, routing.weights, limit=c.swiglu_limit, shared=w.shared,
                    dtype=x.dtype)  # fmt: skip
