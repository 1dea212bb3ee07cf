"""The whole model: embedding, streams, blocks, merge, head, and the predictor."""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from octavo.cache.view import View
from octavo.config.model import DraftKind, ModelConfig
from octavo.kernels import hyper, step
from octavo.kernels.linear import linear
from octavo.kernels.pack import Pack
from octavo.model.block import Block, BlockReport
from octavo.model.embed import Embedding
from octavo.model.linear import Linear
from octavo.model.mtp import MTP
from octavo.model.norm import RMSNorm
from octavo.model.rotary import Rotary
from octavo.model.stack import StackStep


class Output(NamedTuple):
    """Streams [T, M, D] after the last block, and every block's report."""

    streams: Tensor
    reports: tuple[BlockReport, ...]


class Transformer(nn.Module):
    """DeepSeek-V4; parameter names are those of the official checkpoints, routed experts stacked.

    `compute_dtype` is the dtype of the streams; None means that of the embedding. Weights are cast where they are used.
    """

    def __init__(self, config: ModelConfig, *, compute_dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self.config, self.compute_dtype = config, compute_dtype
        M, D = config.hc_mult, config.hidden_size
        self.embed = Embedding(config.vocab_size, D)
        self.layers = nn.ModuleList(
            Block(config, layer=i, ratio=r, hashed=config.is_hash_layer(i), engram=config.has_engram(i))
            for i, r in enumerate(config.layer_ratios)
        )
        self.norm = RMSNorm(D, config.rms_norm_eps)
        self.head = Linear(D, config.vocab_size)
        if config.tie_word_embeddings:
            self.head.weight = self.embed.weight
        self.hc_head_fn = nn.Parameter(torch.empty(M, M * D))
        self.hc_head_base = nn.Parameter(torch.empty(M))
        self.hc_head_scale = nn.Parameter(torch.empty(1))
        self._head_pack = Pack(
            *[(self._parameters, f"hc_head_{part}") for part in ("fn", "base", "scale")],
            (self.norm._parameters, "weight"),
        )
        if config.mtp_kind is DraftKind.MTP:
            self.mtp = nn.ModuleList(MTP(config, stage=i) for i in range(len(config.draft_ratios)))
        if config.engram is not None:
            self.register_buffer("engram_map", torch.arange(config.vocab_size))
        self.rotary, self._stack = Rotary(config), StackStep()

    def forward(self, tokens: Tensor, view: View) -> Output:
        """tokens [T] int64 packed over all sequences of `view`."""
        x = self.embed(tokens)
        x = x if self.compute_dtype is None else x.to(self.compute_dtype)
        streams = x.unsqueeze(1).expand(-1, self.config.hc_mult, -1)
        compressed = self.get_buffer("engram_map") if self.config.engram is not None else None
        blocks = cast(tuple[Block, ...], tuple(self.layers))
        stepped = self._stack.run(blocks, streams, tokens, view, self.rotary, compressed)
        if stepped is not None:
            return Output(*stepped)
        reports = []
        if step.serves(streams) and len(view.groups) == 1:
            for layer in blocks:
                layer.prepare(streams, tokens, view, self.rotary, compressed)
        for layer in blocks:
            streams, report = layer(streams, tokens, view, self.rotary, compressed)
            reports.append(report)
        return Output(streams, tuple(reports))

    def merge(self, streams: Tensor) -> Tensor:
        """Streams [R, M, D] -> normalised hidden rows [R, D] that the head reads."""
        return hyper.finish(streams, self._head_pack, eps=self.config.hc_eps, norm_eps=self.config.rms_norm_eps)

    def logits(self, streams: Tensor) -> Tensor:
        """Streams [R, M, D] -> logits [R, V], at least FP32."""
        rules = {"eps": self.config.hc_eps, "norm_eps": self.config.rms_norm_eps}
        weight = self.head.weight
        made = step.head(streams, self._head_pack, weight, **rules) if step.serves(streams) else None
        if made is not None:
            return made
        hidden = self.merge(streams)
        return linear(hidden if hidden.dtype == torch.float64 else hidden.float(), weight)
