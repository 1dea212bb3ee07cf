"""Layers whose routed experts stay on disk, with a part of them in memory.

Covers: `offload_experts`, which puts layers that ask an `ExpertStore` in the place of those that hold their experts;
what each layer asks for, and what it expects of the next. Does not cover: reading and the hot set (`offload_store`),
Engram's tables (`offload_engram`), GPUs, training.

Results are those of the resident model bit by bit: weights are unpacked to the same values, and the same operations run
over them in the same order; only when a weight is unpacked differs. Expectations cost bytes, never a result.

The next layer's experts are known beforehand where it looks them up by token id. Elsewhere its router is asked about
this layer's input, as if the layers between changed nothing: it names some of the experts that will be chosen.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from octavo.cache.view import Routed
from octavo.kernels import dispatch
from octavo.kernels.experts.stored import Packed, fp4_expert, plain_expert
from octavo.kernels.route import Routing
from octavo.model.block import Block
from octavo.model.checkpoint import LoadReport, Raw, Shards, StoredMatrix
from octavo.model.moe import Experts, Gate, Load, MoE, load_of
from octavo.model.offload_store import W1, W2, W3, ExpertStore
from octavo.model.transformer import Transformer

_PARTS = ("w1", "w3", "w2")
_FEW = 8  # tokens up to which experts are asked for one after the other, with all three matrices


def expert_parameters(model: Transformer) -> frozenset[str]:
    """Names of the parameters that hold routed experts."""
    names = [name for name, _ in blocks_of(model)]
    return frozenset(f"{name}.ffn.experts.{part}" for name in names for part in _PARTS)


def blocks_of(model: Transformer) -> list[tuple[str, Block]]:
    """Layers, then draft stages, by name."""
    stacks = {"layers": model.layers, "mtp": model.mtp if hasattr(model, "mtp") else ()}
    return [(f"{stack}.{i}", cast(Block, block)) for stack, blocks in stacks.items() for i, block in enumerate(blocks)]


def offload_experts(
    model: Transformer, report: LoadReport, dtype: torch.dtype, shards: Shards, *, budget_bytes: int
) -> ExpertStore:
    """Give the layers of `model` (loaded on the CPU with `expert_parameters` left on disk) their experts from a store.

    `dtype` is that of the weights in use. LimitError for a budget that is too small (see `ExpertStore`).
    """
    blocks = blocks_of(model)
    matrices = [tuple(report.left[f"{name}.ffn.experts.{part}"] for part in _PARTS) for name, _ in blocks]
    store = ExpertStore(matrices, shards, budget_bytes=budget_bytes, top=model.config.num_experts_per_tok)
    room = Scratch()
    gates = [block.ffn.gate for _, block in blocks]
    for at, (_, block) in enumerate(blocks):
        stacks = [Stack(store, at, part, matrices[at][part], dtype, room) for part in (W1, W3, W2)]
        following = gates[at + 1] if at + 1 < len(model.layers) else None
        block.ffn = OffloadedMoE(block.ffn, stacks, following)
    first = gates[0]
    if first.hashed:  # nothing before it could tell: its experts are read while the tokens are embedded
        model.register_forward_pre_hook(lambda _, given: _expect(store, 0, first.given(given[0])[0]))
    return store


def _expect(store: ExpertStore, layer: int, chosen: Tensor | None) -> None:
    if chosen is not None:
        store.expect(layer, chosen.unique().tolist(), by_matrix=len(chosen) > _FEW)


class Scratch(threading.local):
    """Memory that each thread unpacks into, kept from one expert to the next; the least that is asked for at a time."""

    def __init__(self) -> None:
        self._held: dict[Any, Tensor] = {}

    def of(self, part: int, shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
        """A tensor for one matrix; the next call for the same part gives the same memory."""
        key = (part, shape, dtype)
        if key not in self._held:
            self._held[key] = torch.empty(shape, dtype=dtype)
        return self._held[key]


class Stack:
    """What stands for the stacked weights [X, rows, width] of one part of a layer's experts.

    `stack[e]` is a matrix in the dtype of the model; it holds until the next matrix of the same part is asked for on
    the same thread. `index_select` copies, as that of a tensor.
    """

    def __init__(
        self, store: ExpertStore, layer: int, part: int, matrices: tuple[StoredMatrix, ...], dtype: torch.dtype,
        room: Scratch,
    ) -> None:  # fmt: skip
        self.store, self.layer, self.part, self.dtype, self._room = store, layer, part, dtype, room
        self.shape = torch.Size((len(matrices), matrices[0].rows, matrices[0].width))

    def __getitem__(self, expert: int) -> Tensor:
        return self.unpack(self.store.get(self.layer, self.part, expert))

    def unpack(self, raw: Raw) -> Tensor:
        """The matrix in memory that the next one of this part will take."""
        return raw.unpack(self._room.of(self.part, (self.shape[1], self.shape[2]), self.dtype))

    def index_select(self, dim: int, index: Tensor) -> Tensor:
        """Copies of matrices [n, rows, width]."""
        assert dim == 0, "experts are the first dimension"
        asked = index.tolist()
        out = torch.empty(len(asked), *self.shape[1:], dtype=self.dtype)
        for expert in dict.fromkeys(asked):
            out[index == expert] = self[expert]
        return out

    def sample(self, step: int) -> Tensor:
        """Every `step`-th value of the flattened stack, as `tensor.reshape(-1)[::step]`; reads the rows they are in."""
        X, rows, width = self.shape
        found = []
        for at in range(0, X * rows * width, step):
            row, column = divmod(at, width)
            raw = self.store.values(self.layer, self.part, *divmod(row, rows))
            found.append(raw.unpack(torch.empty(1, width, dtype=self.dtype))[0, column])
        return torch.stack(found)


class OffloadedExperts(Experts):
    """In the place of `Experts`: w1, w3, w2 as stacks on disk."""

    def __init__(self, w1: Stack, w3: Stack, w2: Stack) -> None:
        nn.Module.__init__(self)  # no weights in memory
        self.w1, self.w3, self.w2 = w1, w3, w2

    @property
    def stored(self) -> Mapping[str, Stack]:
        """The stacks by name."""
        return {"w1": self.w1, "w3": self.w3, "w2": self.w2}


class OffloadedMoE(MoE):
    """`MoE` with gate and shared expert of `given`, and routed experts that are read when tokens choose them."""

    def __init__(self, given: MoE, stacks: list[Stack], following: Gate | None) -> None:
        """`following`: the gate of the next layer, None behind the last."""
        nn.Module.__init__(self)
        self.__dict__.update(given.__dict__)
        self._pack = None
        self.experts = OffloadedExperts(*stacks)  # pyright: ignore[reportAttributeAccessIssue]
        self._store, self._layer = stacks[0].store, stacks[0].layer
        self.__dict__["_following"] = following  # a module of another layer, not one of this one's

    def forward(
        self, x: Tensor, tokens: Tensor, *, load: bool = True, routed: Routed | None = None
    ) -> tuple[Tensor, Load | None]:
        """As `MoE.forward`."""
        routing = self.gate(x, tokens, routed)
        many = len(x) > _FEW
        ids, counts = routing.experts.unique(return_counts=True)
        self._store.want(self._layer, dict(zip(ids.tolist(), counts.tolist(), strict=True)), len(x), by_matrix=many)
        self._look_ahead(x, tokens, many=many)
        return self._routed(x, routing), load_of(routing, hashed=self.gate.hashed) if load else None

    def _look_ahead(self, x: Tensor, tokens: Tensor, *, many: bool) -> None:
        following: Gate | None = self.__dict__["_following"]
        if following is None or len(x) == 0:
            return
        given, _ = following.given(tokens)
        X = following.weight.shape[0]
        if given is None and len(x) * following.top >= 4 * X:  # nearly all will be chosen: no product is needed
            self._store.expect(self._layer + 1, range(X), by_matrix=many)
            return
        _expect(self._store, self._layer + 1, following(x, tokens).experts if given is None else given)

    def _routed(self, x: Tensor, routing: Routing) -> Tensor:
        few = dispatch.loops_on_cpu(x, tokens=len(x)) and len(x) <= _FEW and not self.simulate
        if not few or self.experts.w1.dtype != x.dtype:
            return super()._routed(x, routing)
        routed = self._few(x.contiguous(), routing)
        return (routed + self.shared_experts(x).to(routed.dtype)).to(x.dtype)

    def _few(self, x: Tensor, routing: Routing) -> Tensor:
        """Routed experts of a handful of tokens, one after the other."""
        e, out = self.experts, torch.zeros(x.shape, dtype=torch.float32)
        stacks = [cast(Stack, stack) for stack in (e.w1, e.w3, e.w2)]
        held: dict[int, list[Raw]] = {}
        for t, (experts, shares) in enumerate(zip(routing.experts.tolist(), routing.weights.tolist(), strict=True)):
            for expert, share in zip(experts, shares, strict=True):
                if expert not in held:
                    held[expert] = [self._store.get(self._layer, stack.part, expert) for stack in stacks]
                packed = [raw.packed for raw in held[expert]]
                rules = {"share": share, "limit": self.limit, "out": out[t]}
                if all(pair is not None for pair in packed):
                    fp4_expert(x[t], *cast(list[Packed], packed), **rules)
                else:
                    plain = [stack.unpack(raw) for stack, raw in zip(stacks, held[expert], strict=True)]
                    plain_expert(x[t], *plain, **rules)
        return out
