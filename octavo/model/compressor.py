"""The token-level compressor: raw rows of tokens in, entries of closed groups out (report, sections on HCA and CSA)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from octavo.cache.documents import Documents
from octavo.cache.view import FreshRows, Group
from octavo.config.model import CSA_RATIO, ModelConfig
from octavo.kernels import step
from octavo.kernels.compress import place, pool, pool_placed
from octavo.kernels.hadamard import hadamard
from octavo.kernels.quant import simulate_fp4, simulate_fp8
from octavo.kernels.rope import norm_rotate
from octavo.kernels.rows import DenseRows, Rows
from octavo.kernels.wide_linear import wide_linear
from octavo.model.linear import Linear
from octavo.model.norm import RMSNorm
from octavo.model.rotary import Rotary


class Compressor(nn.Module):
    """Pools `ratio` tokens (with overlap for ratio 4) into one entry of `width`: pool, norm, rotate, store.

    `kind` names the store it fills ("main" or "index"); index entries are turned by the Hadamard transform.
    """

    def __init__(self, config: ModelConfig, *, layer: int, kind: str, width: int) -> None:
        super().__init__()
        self.layer, self.kind, self.width = layer, kind, width
        self.ratio = config.layer_ratios[layer]
        self.overlap = self.ratio == CSA_RATIO
        raw = width * (2 if self.overlap else 1)
        self.wkv = Linear(config.hidden_size, raw)
        self.wgate = Linear(config.hidden_size, raw)
        self.ape = nn.Parameter(torch.empty(self.ratio, raw))
        self.norm = RMSNorm(width, config.rms_norm_eps)
        self.rope_dims = config.qk_rope_head_dim
        self.simulate = config.quant_sim

    def project(self, x: Tensor) -> Tensor:
        """Values and gate scores of every token, [T, D] -> [T, 2 * raw], at least FP32 (without the position bias)."""
        return wide_linear(x, self.wkv.weight, self.wgate.weight)

    def entries(
        self, projected: Tensor, group: Group, rotary: Rotary, dtype: torch.dtype, *, placed: bool = False
    ) -> Rows:
        """Close the groups that the new tokens [B, S, 2 * raw] complete, and return all entries so far. `placed`: they
        have their position bias already."""
        if group.documents is not None:
            assert not placed  # a token's place in its block is that in its document
            return self._of_documents(projected, group.documents, rotary, dtype)
        B, S, both = projected.shape
        start, stop = group.first // self.ratio, (group.first + S) // self.ratio
        previous = self.overlap and start > 0
        since = (start - previous) * self.ratio if stop > start else None
        whole = not placed and isinstance(group.past, FreshRows)  # no later step needs the rows
        new = projected if placed or whole else place(projected, self.ape, first=group.first)
        rows = group.past.raw(self.layer, self.kind, new, since=since)
        if rows is None or since is None:
            return group.past.entries(self.layer, self.kind, start, new.new_empty(B, 0, self.width, dtype=dtype))
        used = rows[:, : stop * self.ratio - since]
        gain = self.norm.weight
        if B == 1 and not self.simulate and step.serves_entry(used, gain, tokens=S, ratio=self.ratio):
            rows = place(used, self.ape, first=0) if whole else used
            made = step.entry(
                rows[0], gain, rotary.frequencies(self.ratio, used.device), ratio=self.ratio, overlap=self.overlap,
                has_previous=previous, first=start, eps=self.norm.eps, transformed=self.kind == "index",
            )  # fmt: skip
            return group.past.entries(self.layer, self.kind, start, made.unsqueeze(0))
        rules = {"ratio": self.ratio, "overlap": self.overlap, "has_previous": previous}
        if whole:
            made = pool_placed(used, self.ape, **rules)
        else:
            made = pool(used[..., : both // 2], used[..., both // 2 :], **rules)
        table = rotary.table(group.past.entry_positions(start, stop, self.ratio), self.ratio, dtype)
        turned = norm_rotate(made.to(dtype), gain, *table, eps=self.norm.eps)
        return group.past.entries(self.layer, self.kind, start, self._finish(turned))

    def _of_documents(self, projected: Tensor, documents: Documents, rotary: Rotary, dtype: torch.dtype) -> Rows:
        """The entries of all documents, whose blocks begin anew with each of them."""
        fresh = documents.entries(self.ratio).fresh if self.overlap else None
        used, rules = documents.blocks(projected, self.ratio), {"ratio": self.ratio, "overlap": self.overlap}
        made = pool_placed(used, self.ape, **rules, has_previous=False, fresh=fresh)
        table = rotary.table(documents.entry_positions(self.ratio), self.ratio, dtype)
        return DenseRows(self._finish(norm_rotate(made.to(dtype), self.norm.weight, *table, eps=self.norm.eps)))

    def _finish(self, made: Tensor) -> Tensor:
        if self.kind == "index":
            made = hadamard(made)
            return simulate_fp4(made) if self.simulate else made
        return round_main(made, self.rope_dims) if self.simulate else made


def round_main(rows: Tensor, rope_dims: int) -> Tensor:
    """The FP8 simulation of window and compressed rows: groups of 64 without the rotary channels."""
    still = rows.shape[-1] - rope_dims
    return torch.cat((simulate_fp8(rows[..., :still], group=min(64, still)), rows[..., still:]), dim=-1)
