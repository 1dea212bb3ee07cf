"""A stage of the multi-token predictor on a GPU: a window block over a ring of its own.

Covers: `GpuStage`, what `octavo.model.mtp` says in the kernels of `forward`. Nothing on the device sets a size, so that
it can be captured. Does not cover: which tokens are proposed, rings (`octavo.engine.gpu.drafts`).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from octavo.cache.slots import LayerSlots
from octavo.kernels.paged import Places, Ring
from octavo.kernels.rmsnorm.triton import rmsnorm
from octavo.model.gpu.forward import GpuModel, Step
from octavo.model.gpu.weights import StageWeights


class GpuStage:
    """Runs `weights`, a stage of `model`."""

    def __init__(self, model: GpuModel, weights: StageWeights) -> None:
        self.model, self.weights = model, weights

    @torch.inference_mode()
    def advance(self, streams: Tensor, following: Tensor, ring: Ring, places: Places, positions: Tensor) -> Tensor:
        """The stage's own streams [T, M, D] of tokens whose streams are given and which `following` int64 [T] follow.

        `places` say where the rows lie in `ring`: they are numbered from the first one that may be seen, or -1 for
        padding. `positions` [T] are the tokens' own, which turn queries and rows.
        """
        w, model, eps = self.weights, self.model, self.model.config.rms_norm_eps
        T, M, D = streams.shape
        e = w.e_map(rmsnorm(F.embedding(following, model.weights.embedding), w.e_gain, eps))
        h = w.h_map(rmsnorm(streams, w.h_gain, eps).view(T * M, D))
        mixed = e.unsqueeze(1) + h.view(T, M, D)
        number, step = model.config.num_hidden_layers, Step(following, places, T)
        tables, slots = model.tables(positions), LayerSlots(ring, {}, {})
        return model.written(*model.block(mixed, None, number, w.layer, step, tables, slots))

    def logits(self, streams: Tensor) -> Tensor:
        """The stage's own streams [R, M, D] -> logits FP32 [R, V] of the tokens behind those that followed."""
        return self.model.logits(streams, self.weights.merge)
