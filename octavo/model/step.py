"""A block's step through compiled parts, where these serve it: of a handful of tokens, or of a chunk of many.

Covers: which weights and sizes of a block they read, when they run, and in which order. Does not cover: what they
compute (`octavo.kernels.step`, `octavo.kernels.chunk`), attention between them (`octavo.model.attention`), the step
otherwise (`octavo.model.block`, whose results these agree with but for rounding).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from octavo.cache.places import Places, StoreAt
from octavo.cache.view import Grown, Picks, StateRows, View
from octavo.config.model import CSA_RATIO, LayerKind, ModelConfig
from octavo.kernels import chunk, native, step
from octavo.kernels.index_topk import Levels, scan
from octavo.kernels.pack import Place
from octavo.kernels.step import Layer, Sizes
from octavo.kernels.step.whole import Layers, Sight, Step, Store
from octavo.model.attention import Attention, AttentionOutput, Mass
from octavo.model.rotary import Rotary, Table

if TYPE_CHECKING:
    from octavo.model.block import Block
    from octavo.model.moe import Gate


_KINDS = ("main", "index")


class BlockStep:
    """The compiled step of one block. Parts of the block may be replaced and weights may move at any time."""

    def __init__(self, config: ModelConfig) -> None:
        self._config = config
        self._layer: Layer | None = None
        self._of: tuple[nn.Module, nn.Module] | None = None

    def layer(self, block: Block, streams: Tensor, view: View) -> Layer | None:
        """The weights that a step of these streams [T, M, D] reads; None where the compiled parts do not serve it: many
        tokens, and what `held` says."""
        return self.held(block, view) if step.serves(streams) else None

    def held(self, block: Block, view: View) -> Layer | None:
        """The weights that compiled parts read; None for several sequences or documents, other devices and dtypes,
        rounding on the way, a report on experts, experts chosen elsewhere."""
        groups = view.groups
        controls = view.controls
        if len(groups) != 1 or groups[0].rows != 1 or groups[0].documents is not None:
            return None
        if controls.load or controls.routing is not None:
            return None
        attn, ffn = block.attn, block.ffn
        if not attn.plain:
            return None
        if self._of is None or self._of[0] is not attn or self._of[1] is not ffn:
            self._of, self._layer = (attn, ffn), Layer(_sizes(self._config, block), _places(block))
        assert self._layer is not None
        return self._layer if self._layer.ready() else None

    def still(self, block: Block, layer: Layer) -> bool:
        """Whether these are the block's weights yet, where they lie now."""
        of, modules = self._of, block._modules
        if layer is not self._layer or of is None or of[0] is not modules["attn"] or of[1] is not modules["ffn"]:
            return False
        return layer.ready()

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
        prepared = self.prepared(view)
        if prepared is not None:
            return prepared.run(streams)
        parts = step if step.serves(streams) else chunk if chunk.serves(streams) else None
        layer = None if parts is None else self.held(block, view)
        return None if parts is None or layer is None else _parts(parts, layer, block, streams, tokens, view, rotary)

    def prepared(self, view: View) -> Prepared | None:
        """What `prepare` made, None where the step runs in parts or not in compiled code."""
        return view.made(self._key)

    @property
    def _key(self) -> tuple[str, int]:
        return "step", id(self)

    def __getstate__(self) -> ModelConfig:
        return self._config

    def __setstate__(self, config: ModelConfig) -> None:
        self.__init__(config)


def _parts(
    parts: ModuleType, layer: Layer, block: Block, streams: Tensor, tokens: Tensor, view: View, rotary: Rotary
) -> tuple[Tensor, AttentionOutput]:
    """`parts`: `step`, or `chunk` for many tokens."""
    table = block.table(view, rotary, streams.dtype)
    made, links = parts.enter(layer, streams, *table, first=view.groups[0].first)
    attended = block.attn.attend(made, view, rotary, streams.dtype, placed=True)
    streams, x, links = parts.cross(layer, streams, attended.out, links, *table)
    if block.ffn.plain:
        return parts.mix(layer, streams, x, links, block.ffn.gate.given(tokens)[0]), attended
    out, _ = block.ffn(x, tokens, load=False)
    return parts.write(streams, out, links), attended


def _prepared(
    layer: Layer, block: Block, shape: torch.Size, tokens: Tensor, view: View, rotary: Rotary
) -> Prepared | None:
    """A step of streams [T, M, D] of this shape in whole layers; None where something must be converted, joined or
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
    needed = T * layer.sizes.room
    room = view.once(("room", needed), lambda: torch.empty(needed))
    call = Step(
        layer=layer.address, room=room.data_ptr(), select=scan.select_address(),
        run=native.run_address(native.called()), tokens=T, threads=torch.get_num_threads(), window=attn.window,
        sight=sight, level=scan.level(), picks=k, scale=attn.width**-0.5,
    )  # fmt: skip
    if ratio:
        call.frequencies, call.main = rotary.frequencies(ratio, room.device).data_ptr(), _store(stores[0])
    if len(stores) > 1:
        call.index = _store(stores[1])
    if sight is Sight.EVERY and controls.hca_offset is not None and attn.kind is LayerKind.HCA:
        call.offset = controls.hca_offset.item()
    stop = (first + T) // ratio if ratio else 0
    made = Prepared(
        block=block, number=attn.layer, layer=layer, call=call, kinds=kinds, room=room, shape=shape,
        gate=block.ffn.gate if block.ffn.gate.hashed else None,
        until=_until(attn, sight, k, first + T),
        levels=attn.indexer.levels if sight is Sight.BEST else None,
        mass=_asked_mass(call, T, stop, k) if controls.mass and sight is not Sight.WINDOW and stop else None,
    )  # fmt: skip
    made.place(past, grown, first, tokens, block.table(view, rotary, torch.float32))
    return made


_NO_END = 1 << 62


def _until(attn: Attention, sight: Sight, k: int, end: int) -> int:
    if attn.kind is LayerKind.CSA and sight is Sight.EVERY:
        return CSA_RATIO * (k + 1)
    levels = attn.indexer.levels if sight is Sight.BEST else None
    return _NO_END if levels is None or end > levels.after else levels.after + 1


@dataclass(slots=True, kw_only=True)
class Prepared:
    """A block's step but for its streams.

    `kinds`: of the entries it makes; `gate`: one that looks experts up by token; `until`: tokens from which its queries
    see entries in another way; `levels`: of an index with two, which is asked; `mass`: that and picks, if asked for.
    With `place` another step of as many tokens may follow, as long as weights and pages are where they were.
    """

    block: Block
    number: int
    layer: Layer
    call: Step
    kinds: tuple[str, ...]
    gate: Gate | None
    room: Tensor
    shape: torch.Size
    until: int
    levels: Levels | None
    mass: tuple[Tensor, Tensor | None] | None
    past: StateRows | None = None
    start: int = 0  # entries start .. stop - 1 are completed
    stop: int = 0
    late: bool = False  # whether the coarse keys are others between the halves
    coarse: StoreAt | None = None
    held: tuple[Tensor | None, ...] = ()

    def place(self, past: StateRows, grown: Grown, first: int, tokens: Tensor, table: Table) -> None:
        """Read and write the rows of the tokens first, first + 1, ..; `table` is that of their positions."""
        call, block, (cos, sin), end = self.call, self.block, table, first + self.shape[0]
        given = None if self.gate is None else self.gate.given(tokens)[0]
        self.past, self.held, self.late = past, (cos, sin, given), False
        call.first, call.past, call.window_rows = first, grown.past, grown.window
        call.cosine, call.sine = cos.data_ptr(), sin.data_ptr()
        call.table_rows = None if given is None else given.data_ptr()
        if self.kinds:
            self.start, self.stop = first // block.ratio, end // block.ratio
            call.raw, call.index_raw = grown.raw["main"], grown.raw.get("index")
        if self.levels is not None and self.levels.choose(end):
            self.late = end // self.levels.border > first // self.levels.border
            if self.coarse is None and not self.late:
                self.give_coarse()

    def find(self, places: Places, first: int) -> bool:
        """Read entries where they lie now, for tokens from number `first` on; False where they lie as they are not."""
        stores = [places.store((self.number, kind)) for kind in self.kinds]
        if None in stores:
            return False
        for kind, at in zip(self.kinds, stores, strict=True):
            setattr(self.call, kind, _store(at))
        if self.levels is not None and self.levels.choose(first + 1):
            size = self.levels.block // self.block.ratio
            self.coarse = places.coarse((self.number, "index"), size, first // self.block.ratio)
            if self.coarse is None:
                return False
            self.call.coarse, self.call.block, self.call.best = (
                _store(self.coarse), self.levels.block, self.levels.best,
            )  # fmt: skip
        return True

    def release(self) -> None:
        """Hold nothing of the sequence."""
        self.past, self.held = None, ()

    def run(self, streams: Tensor) -> tuple[Tensor, AttentionOutput]:
        """Streams behind the block, and what its attention says."""
        call, streams, out = self.call, streams.contiguous(), torch.empty(self.shape)
        call.streams, call.out = streams.data_ptr(), out.data_ptr()
        run_layers(Layers(call), (self,))
        return out, AttentionOutput(out, None, self.masses)

    @property
    def masses(self) -> tuple[Mass, ...]:
        """The attention mass of a step that ran, where it is asked for."""
        return () if self.mass is None else (Mass(self.block.ratio, *self.mass),)

    def complete(self) -> None:
        """What is known of the entries that were written no longer holds."""
        assert self.past is not None
        for kind in self.kinds:
            self.past.complete(self.number, kind, self.start, self.stop - self.start)

    def give_coarse(self) -> None:
        """Coarse keys of all blocks that are complete at the end of the step."""
        assert self.past is not None
        assert self.levels is not None
        call, key = self.call, (self.number, "index")
        end = (call.first + call.tokens) // self.block.ratio
        self.coarse = self.past.places.coarse(key, self.levels.block // self.block.ratio, end)
        call.coarse, call.block, call.best = _store(self.coarse), self.levels.block, self.levels.best


def run_layers(layers: Layers, prepared: Sequence[Prepared]) -> None:
    """Run layers that follow one another, in one call but for those whose coarse keys change meanwhile."""
    done = 0
    for number, one in enumerate(prepared):
        if one.late:
            layers.halves(done, done := 2 * number + 1)
            one.complete()
            one.give_coarse()
    layers.halves(done, 2 * len(prepared))
    for one in prepared:
        if one.stop > one.start and not one.late:
            one.complete()


def _sight(block: Block, view: View, end: int) -> tuple[Sight | None, int]:
    """What the queries before token `end` see, and how many are picked; None: chosen in a way that parts alone know."""
    attn, controls = block.attn, view.controls
    if attn.kind is LayerKind.WINDOW:
        return Sight.WINDOW, 0
    if attn.kind is LayerKind.HCA:
        return (Sight.EVERY if controls.hca else Sight.WINDOW), 0
    k = attn.indexer.topk if controls.index_topk is None else controls.index_topk
    if controls.picks is Picks.ALL or end // CSA_RATIO <= k:
        return Sight.EVERY, k
    levels = attn.indexer.levels
    if levels is not None and levels.divides(view.groups[0].first, end):
        return None, k
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
