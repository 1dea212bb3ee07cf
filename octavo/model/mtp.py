"""The multi-token predictor: from the streams at t and the token t + 1, the logits of t + 2 (report, MTP section)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from octavo.cache.view import View
from octavo.config.model import ModelConfig
from octavo.kernels import hyper
from octavo.model.block import Block, BlockReport
from octavo.model.linear import Linear
from octavo.model.norm import RMSNorm
from octavo.model.rotary import Rotary


class MTP(Block):
    """A window block of its own with its own merge and final norm; embedding and head are the model's."""

    def __init__(self, config: ModelConfig, *, stage: int) -> None:
        super().__init__(config, layer=config.num_hidden_layers + stage, ratio=0, hashed=False, engram=False)
        M, D = config.hc_mult, config.hidden_size
        self.enorm = RMSNorm(D, config.rms_norm_eps)
        self.hnorm = RMSNorm(D, config.rms_norm_eps)
        self.norm = RMSNorm(D, config.rms_norm_eps)
        self.e_proj = Linear(D, D, simulate=config.quant_sim)
        self.h_proj = Linear(D, D, simulate=config.quant_sim)
        self.hc_head_fn = nn.Parameter(torch.empty(M, M * D))
        self.hc_head_base = nn.Parameter(torch.empty(M))
        self.hc_head_scale = nn.Parameter(torch.empty(1))
        self._merge = {"eps": config.hc_eps, "norm_eps": config.rms_norm_eps}

    def predict(
        self, streams: Tensor, next_embedding: Tensor, next_tokens: Tensor, view: View, rotary: Rotary
    ) -> tuple[Tensor, BlockReport]:
        """Streams [T, M, D] of the last block, embedding [T, D] and ids [T] of the following tokens -> hidden [T, D]
        that the model's head turns into logits of the token after next."""
        after, report = self.advance(streams, next_embedding, next_tokens, view, rotary)
        return self.read_out(after), report

    def advance(
        self, streams: Tensor, next_embedding: Tensor, next_tokens: Tensor, view: View, rotary: Rotary
    ) -> tuple[Tensor, BlockReport]:
        """As `predict`, up to the block's own streams [T, M, D]; they stand for those of the last block one token on.
        """
        mixed = self.e_proj(self.enorm(next_embedding)).unsqueeze(1) + self.h_proj(self.hnorm(streams))
        return self(mixed, next_tokens, view, rotary, None)

    def read_out(self, streams: Tensor) -> Tensor:
        """The block's own streams [R, M, D] -> hidden [R, D]."""
        return self.norm(hyper.merge(streams, self.hc_head_fn, self.hc_head_base, self.hc_head_scale, **self._merge))
