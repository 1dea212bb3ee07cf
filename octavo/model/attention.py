"""Attention with one shared key-value row a token, a window, compressed entries, sinks and grouped output."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from octavo.cache.view import Controls, Group, View
from octavo.config.model import LayerKind, ModelConfig
from octavo.kernels.linear import grouped_linear
from octavo.kernels.pack import Pack
from octavo.kernels.projections import Inputs, project_in, project_out
from octavo.kernels.rope import norm_rotate, rotate
from octavo.kernels.rows import Rows
from octavo.kernels.selection import Causal, Picked, Selection
from octavo.kernels.sparse_attention import sparse_attention
from octavo.model.compressor import Compressor, round_main
from octavo.model.indexer import Indexer, IndexLoss, Queries
from octavo.model.linear import Linear, pack_of
from octavo.model.norm import RMSNorm
from octavo.model.rotary import Rotary, Table


class Mass(NamedTuple):
    """Attention probability that a group's queries gave to compressed entries, summed over heads: values [B, S, n] for
    the entries `index` [B, S, n], or for entries 0..n-1 when `index` is None."""

    ratio: int
    values: Tensor
    index: Tensor | None


class AttentionOutput(NamedTuple):
    """Output [T, D] (of `attend`: heads [T, H, K]), index loss (CSA layers, on request), mass by group (on request)."""

    out: Tensor
    index_loss: IndexLoss | None
    mass: tuple[Mass, ...]


class Attention(nn.Module):
    """One attention sublayer of any kind; `ratio` 0 is window only."""

    def __init__(self, config: ModelConfig, *, layer: int, ratio: int) -> None:
        super().__init__()
        H, K, sim = config.num_attention_heads, config.head_dim, config.quant_sim
        self.layer, self.ratio, self.kind = layer, ratio, LayerKind.of(ratio)
        self.heads, self.width, self.window = H, K, config.sliding_window
        self.groups, self.rank, self.eps = config.o_groups, config.o_lora_rank, config.rms_norm_eps
        self.rope_dims, self.simulate, self.index_heads = config.qk_rope_head_dim, sim, config.index_n_heads
        self.wq_a = Linear(config.hidden_size, config.q_lora_rank, simulate=sim)
        self.q_norm = RMSNorm(config.q_lora_rank, self.eps)
        self.wq_b = Linear(config.q_lora_rank, H * K, simulate=sim)
        self.wkv = Linear(config.hidden_size, K, simulate=sim)
        self.kv_norm = RMSNorm(K, self.eps)
        self.wo_a = Linear(config.group_width, self.groups * self.rank)
        self.wo_b = Linear(self.groups * self.rank, config.hidden_size, simulate=sim)
        self.attn_sink = nn.Parameter(torch.empty(H))
        if self.kind is not LayerKind.WINDOW:
            self.compressor = Compressor(config, layer=layer, kind="main", width=K)
        if self.kind is LayerKind.CSA:
            self.indexer = Indexer(config, layer=layer)
        self._pack_in = None if sim else self._weights_in()
        self._pack_out = None if sim else pack_of(self.wo_a, self.wo_b)

    def _weights_in(self) -> Pack:
        """In the order of `project_in`."""
        return pack_of(self.wq_a, self.q_norm, self.wq_b, self.wkv, self.kv_norm, *self._maps_beside())

    def _maps_beside(self) -> list[nn.Module]:
        """The maps of the compressor and of the indexer, as far as the layer has them."""
        maps: list[nn.Module] = []
        if self.kind is not LayerKind.WINDOW:
            maps += [self.compressor.wkv, self.compressor.wgate]
        if self.kind is LayerKind.CSA:
            small = self.indexer.compressor
            maps += [self.indexer.wq_b, self.indexer.weights_proj, small.wkv, small.wgate]
        return maps

    def forward(self, x: Tensor, view: View, rotary: Rotary, table: Table) -> AttentionOutput:
        """x [T, D] normalised input; `table` is this layer's (cos, sin) [T, P / 2]."""
        made = project_in(
            x,
            self._pack_in,
            *table,
            heads=self.heads,
            index_heads=self.index_heads,
            eps=self.eps,
            plain=lambda: self._project_in(x, table),
        )
        attended = self.attend(made, view, rotary, x.dtype)
        out = project_out(attended.out, self._pack_out, *table, plain=lambda: self._project_out(attended.out, table))
        return attended._replace(out=out)

    @property
    def plain(self) -> bool:
        """Whether the maps are matrices and nothing is rounded on the way."""
        return self._pack_in is not None

    def attend(
        self, made: Inputs, view: View, rotary: Rotary, dtype: torch.dtype, *, placed: bool = False
    ) -> AttentionOutput:
        """What lies between the maps: `out` are the heads [T, H, K]. `dtype` is that of the sublayer's input; `placed`:
        raw rows have their position bias."""
        kv = round_main(made.kv, self.rope_dims) if self.simulate else made.kv
        outs, losses, masses = [], [], []
        for group in view.groups:
            window = group.past.window(self.layer, _rows(kv, group))
            rows, keys, selection, asked = None, None, None, None
            if made.raw is not None:
                rows = self.compressor.entries(_rows(made.raw, group), group, rotary, dtype, placed=placed)
            if made.index_q is not None and made.index_w is not None and made.index_raw is not None:
                raw = _rows(made.index_raw, group)
                keys = self.indexer.compressor.entries(raw, group, rotary, dtype, placed=placed)
                asked = Queries(_rows(made.index_q, group), _rows(made.index_w, group))
                selection = self.indexer.select(asked, keys, group, view.controls)
            elif rows is not None:
                bounds = None if group.documents is None else group.documents.entries(self.ratio).bounds
                selection = Causal(self.ratio, view.controls.hca_offset, bounds) if view.controls.hca else None
            o, mass = self._attend(_rows(made.q, group), window, rows, selection, group, view)
            outs.append(o.flatten(0, 1))
            if mass is not None and selection is not None:
                masses.append(Mass(self.ratio, mass, selection.index if isinstance(selection, Picked) else None))
                if view.controls.index_loss and asked is not None and keys is not None:
                    losses.append(
                        self.indexer.loss(asked, keys, selection, mass, group, self._mass_every(view.controls))
                    )
        o = outs[0] if len(outs) == 1 else torch.cat(outs)
        loss = IndexLoss(*(torch.stack(v).sum() for v in zip(*losses, strict=True))) if losses else None
        return AttentionOutput(o, loss, tuple(masses) if view.controls.mass else ())

    def _project_in(self, x: Tensor, table: Table) -> Inputs:
        cos, sin = table[0].unsqueeze(1), table[1].unsqueeze(1)
        latent = self.q_norm(self.wq_a(x))
        q = norm_rotate(self.wq_b(latent).view(-1, self.heads, self.width), None, cos, sin, eps=self.eps)
        kv = norm_rotate(self.wkv(x), self.kv_norm.weight, *table, eps=self.eps)
        return Inputs(q, kv, *self._project_beside(x, latent, table))

    def _project_beside(
        self, x: Tensor, latent: Tensor, table: Table
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None]:
        """raw, index_q, index_w, index_raw of `Inputs`."""
        raw = self.compressor.project(x) if self.kind is not LayerKind.WINDOW else None
        if self.kind is not LayerKind.CSA:
            return raw, None, None, None
        queries = self.indexer.queries(x, latent, table)
        return raw, queries.q, queries.w, self.indexer.compressor.project(x.detach())

    def _mass_every(self, controls: Controls) -> int:
        """Which queries report their attention mass: all, every n-th for the index loss, none (0)."""
        if controls.mass:
            return 1
        return controls.index_every if controls.index_loss and self.kind is LayerKind.CSA else 0

    def _attend(
        self, q: Tensor, window: Tensor, rows: Rows | None, selection: Selection | None, group: Group, view: View
    ) -> tuple[Tensor, Tensor | None]:
        return sparse_attention(
            q,
            window,
            self.attn_sink,
            first=group.first,
            window=self.window,
            scale=self.width**-0.5,
            rows=None if selection is None else rows,
            selection=selection,
            mass_every=self._mass_every(view.controls),
            begin=None if group.documents is None else group.documents.begin,
        )

    def _project_out(self, o: Tensor, table: Table) -> Tensor:
        """Grouped low-rank output: [T, H, K] -> [T, D]."""
        o = rotate(o, table[0].unsqueeze(1), table[1].unsqueeze(1), inverse=True)
        return self.wo_b(grouped_linear(o.reshape(o.shape[0], self.groups, -1), self.wo_a.weight))


def _rows(packed: Tensor, group: Group) -> Tensor:
    """The group's part of a packed tensor, [T, ...] -> [B, S, ...]."""
    if group.rows * group.length == packed.shape[0]:  # not a slice, whose gradient would be padded with zeros
        return packed.unsqueeze(0) if group.rows == 1 else packed.unflatten(0, (group.rows, group.length))
    return packed[group.start : group.stop].unflatten(0, (group.rows, group.length))
