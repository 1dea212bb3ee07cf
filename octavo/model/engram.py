"""Engram: rows recalled by the last token ids, gated into the streams (arXiv 2601.07372; variants "v1" and "v41")."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from octavo.cache.documents import Documents
from octavo.cache.view import Group, View
from octavo.config.model import ModelConfig
from octavo.kernels import chunk, step
from octavo.kernels.engram_lookup import gate, gather, plan_hash, recall, row_ids
from octavo.kernels.engram_lookup.ref import update
from octavo.kernels.int8_linear import Int8Weight
from octavo.kernels.rmsnorm import rmsnorm
from octavo.model.embed import Embedding
from octavo.model.linear import Linear

_CONV_EPS = 1e-5


class StreamNorm(nn.Module):
    """Gains [M, D] of a norm that every stream has for itself."""

    def __init__(self, streams: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(streams, width))


class Conv(nn.Module):
    """Depthwise causal weights [M * D, kernel], newest tap last."""

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(channels, kernel))


class Engram(nn.Module):
    """The memory of one layer; writes into all streams before the layer's attention reads them."""

    def __init__(self, config: ModelConfig, *, layer: int) -> None:
        super().__init__()
        engram = config.engram
        assert engram is not None
        self._key = ("engram", layer)
        self.layer, self.ngram, self.pad = layer, engram.max_ngram_size, engram.pad_id
        self.streams, self.width, self.eps = config.hc_mult, config.hidden_size, config.rms_norm_eps
        self.plan = plan_hash(
            layer=layer,
            moduli=engram.moduli(layer),
            heads=engram.heads_per_order,
            max_ngram=engram.max_ngram_size,
            vocabulary=engram.compressed_vocab_size or config.vocab_size,
            seed=engram.seed,
        )
        self.table = Embedding(self.plan.rows, engram.head_dim)
        self.wkv = Linear(engram.memory_dim, (self.streams + 1) * self.width)
        self.q_norm = StreamNorm(self.streams, self.width)
        self.k_norm = StreamNorm(self.streams, self.width)
        self.dilation = engram.max_ngram_size
        self.has_conv = engram.has_conv
        if self.has_conv:
            self.conv = Conv(self.streams * self.width, engram.conv_kernel)
            self.conv_norm = StreamNorm(self.streams, self.width)

    def addresses(self, tokens: Tensor, view: View, compressed: Tensor) -> Tensor:
        """Table rows [T, heads] of every token; `compressed` [V] maps token ids to Engram's smaller vocabulary."""
        parts = []
        for group in view.groups:
            new = tokens[group.start : group.stop].view(group.rows, group.length)
            before = group.past.ids_before(self.ngram - 1)
            both = F.pad(torch.cat((before, new), dim=1), (self.ngram - 1 - before.shape[1], 0), value=self.pad)
            small = compressed[both].unfold(1, self.ngram, 1).flip(-1)
            if group.documents is not None:
                same = torch.stack([group.documents.seen(reach) for reach in range(self.ngram)], dim=-1)
                small = torch.where(same, small, compressed[self.pad])
            parts.append(small.reshape(-1, self.ngram))
        return row_ids(torch.cat(parts), self.plan)

    def recalled(self, tokens: Tensor, view: View, compressed: Tensor) -> Tensor:
        """Table rows of every token side by side, [T, memory width]."""
        return gather(self.table.weight, self.addresses(tokens, view, compressed))

    def ahead(self, tokens: Tensor, view: View, compressed: Tensor, dtype: torch.dtype) -> None:
        """Have ready what `forward` makes of the tokens alone."""
        view.once(self._key, lambda: self.wkv(self.recalled(tokens, view, compressed).to(dtype)))

    def forward(self, streams: Tensor, tokens: Tensor, view: View, compressed: Tensor) -> Tensor:
        """[T, M, D] -> [T, M, D]."""
        T, M, D = streams.shape
        both, gains = view.made(self._key), (self.q_norm.weight, self.k_norm.weight)
        if both is None:
            memory = self.recalled(tokens, view, compressed).to(streams.dtype)
            if not self.has_conv and chunk.serves(streams) and _plain(streams.dtype, self.wkv.weight, *gains):
                return chunk.recall(streams, memory, self.wkv.weight, *gains, self.eps)
            both = self.wkv(memory)
        if not self.has_conv and step.serves(streams) and _plain(streams.dtype, both, *gains):
            return step.recall(streams, both, *gains, self.eps)
        if not self.has_conv:
            return recall(streams, both, *gains, self.eps)
        keys, value = both.split((M * D, D), dim=-1)
        made = update(gate(streams, keys.view(T, M, D), *gains, self.eps), value, streams.dtype)
        return streams + made + self._convolve(made, view)

    def _convolve(self, made: Tensor, view: View) -> Tensor:
        """SiLU of the causal dilated depthwise convolution over normalised updates."""
        T, M, D = made.shape
        normed = rmsnorm(made, self.conv_norm.weight, _CONV_EPS).view(T, M * D)
        reach = (self.conv.weight.shape[1] - 1) * self.dilation
        outs = [self._convolve_group(normed, group, reach) for group in view.groups]
        return F.silu(torch.cat(outs)).view(T, M, D)

    def _convolve_group(self, normed: Tensor, group: Group, reach: int) -> Tensor:
        rows = normed[group.start : group.stop].view(group.rows, group.length, -1)
        if group.documents is not None:
            return self._convolve_documents(rows, group.documents)
        both = group.past.conv(self.layer, rows)
        both = F.pad(both, (0, 0, max(0, reach + group.length - both.shape[1]), 0))[:, -(reach + group.length) :]
        weight = self.conv.weight.to(rows.dtype).unsqueeze(1)
        out = F.conv1d(both.transpose(1, 2), weight, groups=weight.shape[0], dilation=self.dilation)
        return out.transpose(1, 2).flatten(0, 1)


    def _convolve_documents(self, rows: Tensor, documents: Documents) -> Tensor:
        """The same of rows [B, S, M * D], tap by tap, since none may reach into the document before."""
        taps, out = self.conv.weight.to(rows.dtype).unbind(1), torch.zeros_like(rows)
        for age, weight in enumerate(reversed(taps)):
            reach = age * self.dilation
            if reach < rows.shape[1]:
                earlier = F.pad(rows[:, : rows.shape[1] - reach], (0, 0, reach, 0))
                out = out + torch.where(documents.seen(reach).unsqueeze(-1), earlier, 0) * weight
        return out.flatten(0, 1)


def _plain(dtype: torch.dtype, *weights: Tensor | Int8Weight) -> bool:
    """Whether all are matrices of this dtype, their rows one behind the other."""
    return all(isinstance(w, Tensor) and w.dtype == dtype and w.is_contiguous() for w in weights)
