"""One decoder block: Engram, then attention and experts, each between a read and a write of the streams."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from octavo.cache.view import View
from octavo.config.model import ModelConfig
from octavo.kernels import hyper
from octavo.kernels.pack import Pack
from octavo.model.attention import Attention, Mass
from octavo.model.engram import Engram
from octavo.model.indexer import IndexLoss
from octavo.model.moe import Load, MoE
from octavo.model.norm import RMSNorm
from octavo.model.rotary import Rotary, Table
from octavo.model.step import BlockStep


class BlockReport(NamedTuple):
    """What a block says beside its streams: index loss, attention mass, expert load (on request)."""

    index_loss: IndexLoss | None
    mass: tuple[Mass, ...]
    load: Load | None


class Block(nn.Module):
    """A layer of the stack (`layers.N`) or of the predictor (`mtp.N`)."""

    def __init__(self, config: ModelConfig, *, layer: int, ratio: int, hashed: bool, engram: bool) -> None:
        super().__init__()
        M, D = config.hc_mult, config.hidden_size
        mixes = M * (2 + M)
        self.ratio, self.number, self._step = ratio, layer, BlockStep(config)
        self._hyper = {"iters": config.hc_sinkhorn_iters, "eps": config.hc_eps, "norm_eps": config.rms_norm_eps}
        if engram:
            self.engram = Engram(config, layer=layer)
        self.has_engram = engram
        self.attn_norm = RMSNorm(D, config.rms_norm_eps)
        self.attn = Attention(config, layer=layer, ratio=ratio)
        self.ffn_norm = RMSNorm(D, config.rms_norm_eps)
        self.ffn = MoE(config, hashed=hashed)
        self.hc_attn_fn = nn.Parameter(torch.empty(mixes, M * D))
        self.hc_attn_base = nn.Parameter(torch.empty(mixes))
        self.hc_attn_scale = nn.Parameter(torch.empty(3))
        self.hc_ffn_fn = nn.Parameter(torch.empty(mixes, M * D))
        self.hc_ffn_base = nn.Parameter(torch.empty(mixes))
        self.hc_ffn_scale = nn.Parameter(torch.empty(3))
        own = self._parameters
        self._attn_pack, self._ffn_pack = (
            Pack(*[(own, f"hc_{name}_{part}") for part in ("fn", "base", "scale")], (norm._parameters, "weight"))
            for name, norm in (("attn", self.attn_norm), ("ffn", self.ffn_norm))
        )

    def forward(
        self, streams: Tensor, tokens: Tensor, view: View, rotary: Rotary, compressed: Tensor | None
    ) -> tuple[Tensor, BlockReport]:
        """Streams [T, M, D], tokens [T]; `compressed` is Engram's vocabulary map, None without Engram."""
        if self.has_engram and compressed is not None:
            streams = self.engram(streams, tokens, view, compressed)
        stepped = self._step.run(self, streams, tokens, view, rotary)
        if stepped is not None:
            streams, attended = stepped
            return streams, BlockReport(attended.index_loss, attended.mass, None)
        table = self.table(view, rotary, streams.dtype)
        streams, x, post, comb = hyper.begin(streams, self._attn_pack, **self._hyper)
        attended = self.attn(x, view, rotary, table)
        streams, x, post, comb = hyper.cross(streams, attended.out, post, comb, self._ffn_pack, **self._hyper)
        out, load = self.ffn(x, tokens, load=view.controls.load, routed=view.controls.routed(self.number))
        return hyper.write(streams, out, post, comb), BlockReport(attended.index_loss, attended.mass, load)

    def table(self, view: View, rotary: Rotary, dtype: torch.dtype) -> Table:
        """The rotary table of the step's positions."""
        return view.once(
            ("rotary", self.ratio > 0, dtype), lambda: rotary.table(view.positions, self.ratio, dtype)
        )

    def prepare(
        self, streams: Tensor, tokens: Tensor, view: View, rotary: Rotary, compressed: Tensor | None
    ) -> None:
        """Have ready what a step of a handful of tokens needs beside the streams; arguments as of `forward`, but of the
        streams only shape and dtype count."""
        if self.has_engram and compressed is not None:
            self.engram.ahead(tokens, view, compressed, streams.dtype)
        self._step.prepare(self, streams, tokens, view, rotary)
