"""A block's step of a handful of tokens through compiled parts, where these serve it.

Covers: which weights and sizes of a block they read, when they run, and in which order. Does not cover: what they
compute (`octavo.kernels.step`), attention between them (`octavo.model.attention`), the step otherwise
(`octavo.model.block`, whose results these agree with but for rounding).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from octavo.cache.places import StoreAt
from octavo.cache.view import Picks, StateRows, View
from octavo.config.model import CSA_RATIO, LayerKind, ModelConfig
from octavo.kernels import native, step
from octavo.kernels.index_topk import scan
from octavo.kernels.pack import Place
from octavo.kernels.step import Layer, Sizes
from octavo.kernels.step.whole import Sight, Step, Store
from octavo.model.attention import AttentionOutput, Mass
from octavo.model.rotary import Rotary

if TYPE_CHECKING:
    from octavo.model.block import Block


_KINDS = ("main", "index")


class BlockStep:
    """The compiled step of one block. Parts of the block may be replaced and weights may move at any time."""

    def __init__(self, config: ModelConfig) -> None:
        self._config = config
        self._layer: Layer | None = None
        self._of: tuple[nn.Module, nn.Module] | None = None

    def layer(self, block: Block, streams: Tensor, view: View) -> Layer | None:
        """The weights that a step of these streams [T, M, D] reads; None where the compiled parts do not serve it: many
        tokens, several sequences, other devices and dtypes, rounding on the way, a report on experts."""
        groups = view.groups
        if len(groups) != 1 or groups[0].rows != 1 or view.controls.load or not step.serves(streams):
            return None
        attn, ffn = block.attn, block.ffn
        if not attn.plain:
            return None
        if self._of is None or self._of[0] is not attn or self._of[1] is not ffn:
            self._of, self._layer = (attn, ffn), Layer(_sizes(self._config, block), _places(block))
        assert self._layer is not None
        return self._layer if self._layer.ready() else None

    def prepare(self, block: Block, streams: Tensor, tokens: Tensor, view: View, rotary: Rotary) -> None:
        """Have ready what a step needs beside its streams. For all blocks at once this is done while the code for it is
        in the processor's caches, which the weights of each block sweep."""
        if type(view.groups[0].past) is StateRows:
            view.once(self._key, lambda: self._look(block, streams, tokens, view, rotary))

    def _look(self, block: Block, streams: Tensor, tokens: Tensor, view: View, rotary: Rotary) -> Prepared | None:
        layer = self.layer(block, streams, view)
        return None if layer is None else _prepared(layer, block, streams.shape, tokens, view, rotary)

    def run(
        self, block: Block, streams: Tensor, tokens: Tensor, view: View, rotary: Rotary
    ) -> tuple[Tensor, AttentionOutput] | None:
        """Streams [T, M, D] behind the block, and what its attention says: as a whole where the sequence's rows lie in
        the cache as they are, else in parts. None where the compiled parts do not serve."""
        prepared: Prepared | None = view.made(self._key)
        if prepared is not None:
            return prepared.run(block, streams)
        layer = self.layer(block, streams, view)
        return None if layer is None else _parts(layer, block, streams, tokens, view, rotary)

    @property
    def _key(self) -> tuple[str, int]:
        return "step", id(self)

    def __getstate__(self) -> ModelConfig:
        return self._config

    def __setstate__(self, config: ModelConfig) -> None:
        self.__init__(config)


def _parts(
    layer: Layer, block: Block, streams: Tensor, tokens: Tensor, view: View, rotary: Rotary
) -> tuple[Tensor, AttentionOutput]:
    table = block.table(view, rotary, streams.dtype)
    made, links = step.enter(layer, streams, *table, first=view.groups[0].first)
    attended = block.attn.attend(made, view, rotary, streams.dtype, placed=True)
    streams, x, links = step.cross(layer, streams, attended.out, links, *table)
    if block.ffn.plain:
        return step.mix(layer, streams, x, links, block.ffn.gate.given(tokens)[0]), attended
    out, _ = block.ffn(x, tokens, load=False)
    return step.write(streams, out, links), attended


def _prepared(
    layer: Layer, block: Block, shape: torch.Size, tokens: Tensor, view: View, rotary: Rotary
) -> Prepared | None:
    """A step of streams [T, M, D] of this shape in two calls; None where something must be converted, joined or
    reported that these do not."""
    group, controls, attn = view.groups[0], view.controls, block.attn
    past, first, T, ratio = group.past, group.first, group.length, block.ratio
    if type(past) is not StateRows or controls.index_loss or not block.ffn.plain or scan.level() == 0:
        return None
    sight, k = _sight(block, view, first + T)
    if sight is None or not past.places.plain:
        return None
    kinds = _KINDS[: 0 if ratio == 0 else 2 if ratio == CSA_RATIO else 1]
    stores: list[StoreAt | None] = [past.places.store((attn.layer, kind)) for kind in kinds]
    grown = None if None in stores else past.grow(attn.layer)
    if grown is None:
        return None
    given, (cos, sin) = block.ffn.gate.given(tokens)[0], block.table(view, rotary, torch.float32)
    needed = T * layer.sizes.room
    room = view.once(("room", needed), lambda: torch.empty(needed))
    call = Step(
        layer=layer.address, cosine=cos.data_ptr(), sine=sin.data_ptr(), room=room.data_ptr(),
        window_rows=grown.window, table_rows=None if given is None else given.data_ptr(),
        select=scan.select_address(), run=native.run_address(native.called()), first=first, tokens=T,
        threads=torch.get_num_threads(), past=grown.past, window=attn.window, sight=sight, level=scan.level(), picks=k,
        scale=attn.width**-0.5,
    )  # fmt: skip
    if ratio:
        call.frequencies = rotary.frequencies(ratio, cos.device).data_ptr()
        call.raw, call.main = grown.raw["main"], _store(stores[0])
    if len(stores) > 1:
        call.index_raw, call.index = grown.raw["index"], _store(stores[1])
    if sight is Sight.EVERY and controls.hca_offset is not None and attn.kind is LayerKind.HCA:
        call.offset = controls.hca_offset.item()
    start, stop = (first // ratio, (first + T) // ratio) if ratio else (0, 0)
    mass = _asked_mass(call, T, stop, k) if controls.mass and sight is not Sight.WINDOW and stop else None
    made = Prepared(call, past, start, stop, mass, shape, (room, cos, sin, given))
    if start == stop:
        made.give_coarse(block)
    return made


@dataclass(frozen=True, slots=True)
class Prepared:
    """A block's step but for its streams: the call, entries start .. stop - 1 that it completes, mass and picks if they
    are asked for, and what must be held in memory."""

    call: Step
    past: StateRows
    start: int
    stop: int
    mass: tuple[Tensor, Tensor | None] | None
    shape: torch.Size
    held: tuple[Tensor | None, ...]

    def run(self, block: Block, streams: Tensor) -> tuple[Tensor, AttentionOutput]:
        """Streams behind the block, and what its attention says."""
        call, streams, out = self.call, streams.contiguous(), torch.empty(self.shape)
        call.streams, call.out = streams.data_ptr(), out.data_ptr()
        call.first_half()
        if self.stop > self.start:
            for kind in _KINDS[: 2 if block.ratio == CSA_RATIO else 1]:
                self.past.complete(block.attn.layer, kind, self.start, self.stop - self.start)
            self.give_coarse(block)
        call.second_half()
        return out, AttentionOutput(out, None, () if self.mass is None else (Mass(block.ratio, *self.mass),))

    def give_coarse(self, block: Block) -> None:
        """The coarse keys, where the index has two levels and not every block would be chosen."""
        call, end = self.call, self.call.first + self.call.tokens
        levels = block.attn.indexer.levels if call.sight == Sight.BEST else None
        if levels is None or not levels.choose(end):
            return
        size = levels.block // block.ratio
        found = self.past.places.coarse((block.attn.layer, "index"), size, end // block.ratio)
        call.coarse, call.block, call.best = _store(found), levels.block, levels.best


def _sight(block: Block, view: View, end: int) -> tuple[Sight | None, int]:
    """What the queries before token `end` see, and how many are picked; None: chosen in a way that parts alone know."""
    attn, controls = block.attn, view.controls
    if attn.kind is LayerKind.WINDOW:
        return Sight.WINDOW, 0
    if attn.kind is LayerKind.HCA:
        return (Sight.EVERY if controls.hca else Sight.WINDOW), 0
    k = attn.indexer.topk if controls.index_topk is None else controls.index_topk
    if controls.picks is Picks.ALL or end // CSA_RATIO <= k:
        return Sight.EVERY, 0
    chosen = controls.picks is Picks.INDEX and attn.indexer.width % scan.WIDTH == 0
    return (Sight.BEST if chosen else None), k


def _store(at: StoreAt | None) -> Store:
    assert at is not None
    return Store(at.count, at.starts, at.rows, at.places)


def _asked_mass(call: Step, T: int, entries: int, k: int) -> tuple[Tensor, Tensor | None]:
    """Room for the attention mass, and for the picks that it belongs to."""
    picked = torch.empty(1, T, k, dtype=torch.int64) if call.sight == Sight.BEST else None
    mass = torch.zeros(1, T, entries if picked is None else k)
    call.mass, call.mass_apart = mass.data_ptr(), mass.shape[2]
    call.picked = None if picked is None else picked.data_ptr()
    return mass, picked


def _sizes(config: ModelConfig, block: Block) -> Sizes:
    attn, gate, indexed, packed = block.attn, block.ffn.gate, hasattr(block.attn, "indexer"), block.ratio > 0
    return Sizes(
        width=config.hidden_size,
        streams=config.hc_mult,
        heads=attn.heads,
        head_width=attn.width,
        pairs=attn.rope_dims // 2,
        latent=config.q_lora_rank,
        groups=attn.groups,
        rank=attn.rank,
        raw=attn.compressor.wkv.weight.shape[0] if packed else 0,
        ratio=block.ratio,
        index_heads=attn.indexer.heads if indexed else 0,
        index_width=attn.indexer.width if indexed else 0,
        index_raw=attn.indexer.compressor.wkv.weight.shape[0] if indexed else 0,
        experts=config.n_routed_experts,
        chosen=gate.top,
        inner=config.moe_intermediate_size,
        shared_inner=config.shared_intermediate_size,
        iterations=config.hc_sinkhorn_iters,
        normalised=gate.normalise,
        eps=config.hc_eps,
        norm_eps=config.rms_norm_eps,
        limit=block.ffn.limit,
        scale=gate.scale,
    )


def _places(block: Block) -> dict[str, Place]:
    """Where the block's weights are found, by the names of `octavo.kernels.step.layer`."""
    attn, ffn, own = block.attn, block.ffn, block._parameters
    modules: dict[str, nn.Module] = {
        "attn_gain": block.attn_norm, "ffn_gain": block.ffn_norm, "wq_a": attn.wq_a, "q_gain": attn.q_norm,
        "wq_b": attn.wq_b, "wkv": attn.wkv, "kv_gain": attn.kv_norm, "wo_a": attn.wo_a, "wo_b": attn.wo_b,
    }  # fmt: skip
    places: dict[str, Place] = {
        f"{name}_{part}": (own, f"hc_{name}_{part}") for name in ("attn", "ffn") for part in ("fn", "base", "scale")
    }
    places["sink"] = attn._parameters, "attn_sink"
    if block.ratio > 0:
        modules |= {"main_kv": attn.compressor.wkv, "main_gate": attn.compressor.wgate}
        places["main_bias"] = attn.compressor._parameters, "ape"
        modules["main_norm"] = attn.compressor.norm
    if hasattr(attn, "indexer"):
        small = attn.indexer.compressor
        modules |= {"index_q": attn.indexer.wq_b, "index_proj": attn.indexer.weights_proj}
        modules |= {"index_kv": small.wkv, "index_gate": small.wgate}
        places["index_bias"] = small._parameters, "ape"
        modules["index_norm"] = small.norm
    if ffn.plain:
        shared = ffn.shared_experts
        modules |= {"gate": ffn.gate, "s1": shared.w1, "s3": shared.w3, "s2": shared.w2}
        places |= {name: (ffn.experts._parameters, name) for name in ("w1", "w3", "w2")}
        if not ffn.gate.hashed:
            places["bias"] = ffn.gate._buffers, "bias"
    return places | {name: (module._parameters, "weight") for name, module in modules.items()}
