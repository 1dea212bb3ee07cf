"""Experts chosen by earlier weights for the features of the current ones.

Covers: the experts that a model's routers choose for a batch (`route_only`), Anticipatory Routing (`RouteAhead`: each
step's experts were chosen `lag` steps before, by the whole model of that time), and its cheaper relative
(`StaleRouters`: old routers choose by current features). Does not cover: when either is on (`stabilise`). Both leave
expert weights and scores to the current router, so that it goes on learning; hash-routed layers and the MTP block
choose as ever. The balance rule counts the experts that were used. Source: DeepSeek-V4 report, section on mitigating
training instability.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from octavo.cache.view import Routed
from octavo.model.block import Block
from octavo.model.moe import Load
from octavo.model.transformer import Transformer
from octavo.train.schedule import StepPlan
from octavo.train.step import Batch, view_of

_BYTE = 256  # experts up to which their numbers are kept in a byte each


@dataclass(frozen=True)
class Prepare:
    """Called with a step below `steps`: its batches on the device and its plan, as `make` gives them."""

    make: Callable[[int], tuple[list[Batch], StepPlan]]
    steps: int

    def __call__(self, step: int) -> tuple[list[Batch], StepPlan]:
        return self.make(step)

    def has(self, step: int) -> bool:
        """Whether the schedule reaches `step`."""
        return step < self.steps


def learned_layers(model: Transformer) -> list[int]:
    """Layers whose router is learned."""
    return [i for i, block in enumerate(cast(Sequence[Block], model.layers)) if not block.ffn.gate.hashed]


def route_only(model: Transformer, batches: Sequence[Batch], plan: StepPlan) -> Tensor:
    """The experts that the learned routers choose for the tokens of `batches`: [layers, T, A], uint8 up to 256 experts,
    else int32.

    One forward pass through the blocks, without head and MTP. It runs the bodies of training, gradients on, and drops
    their graph: those without gradients round otherwise, and a near tie would fall to the other side.
    """
    layers, found = learned_layers(model), []
    kind = torch.uint8 if model.config.n_routed_experts <= _BYTE else torch.int32
    for batch in batches:
        reports = model(batch.tokens.flatten(), view_of(batch, plan)).reports
        loads = [cast(Load, reports[i].load) for i in layers]
        found.append(torch.stack([load.experts for load in loads]).to(kind))
    return torch.cat(found, dim=1)


class RouteAhead:
    """The experts of steps to come, each set chosen `lag` steps ahead."""

    def __init__(self, model: Transformer, lag: int) -> None:
        self._model, self._lag = model, lag
        self._ring: dict[int, Tensor] = {}

    def begin(self, step: int, prepare: Prepare) -> None:
        """Choose for the first `lag` steps from `step` on, by the weights as they are."""
        self._ring = {at: self._chosen(at, prepare) for at in range(step, step + self._lag) if prepare.has(at)}

    def routing(self, step: int, batches: Sequence[Batch], prepare: Prepare) -> list[dict[int, Routed]]:
        """The experts of each of `batches`, those of `step`, by layer; and choose for `lag` steps later."""
        ahead = step + self._lag
        if prepare.has(ahead):
            self._ring[ahead] = self._chosen(ahead, prepare)
        chosen, layers = self._ring.pop(step), learned_layers(self._model)
        parts = chosen.long().split([b.tokens.numel() for b in batches], dim=1)
        return [dict(zip(layers, part, strict=True)) for part in parts]

    def state(self) -> dict[str, Tensor]:
        """The ring by step."""
        return {str(step): chosen for step, chosen in self._ring.items()}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over what `state` gave."""
        device = self._model.embed.weight.device
        self._ring = {int(step): chosen.to(device) for step, chosen in tensors.items()}

    def _chosen(self, step: int, prepare: Prepare) -> Tensor:
        return route_only(self._model, *prepare(step))


class StaleRouters:
    """The routers of `lag` steps before: matrix and selection bias of every learned layer."""

    def __init__(self, model: Transformer, lag: int) -> None:
        self._model, self._lag = model, lag
        self._past: list[dict[int, tuple[Tensor, Tensor]]] = []

    def begin(self, step: int, prepare: Prepare) -> None:
        """The first `lag` steps use the routers as they are now."""
        self._past = [self._current()] * self._lag

    def routing(self, step: int, batches: Sequence[Batch], prepare: Prepare) -> list[dict[int, Routed]]:
        """The old routers by layer, for each of `batches`."""
        self._past.append(self._current())
        old = self._past.pop(0)
        return [dict(old) for _ in batches]

    def state(self) -> dict[str, Tensor]:
        """All kept routers."""
        kept = enumerate(self._past)
        return {f"{i}.{layer}.{k}": pair[k] for i, one in kept for layer, pair in one.items() for k in (0, 1)}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over what `state` gave."""
        device, past = self._model.embed.weight.device, {}
        for name, value in tensors.items():
            i, layer, k = map(int, name.split("."))
            past.setdefault(i, {}).setdefault(layer, {})[k] = value.to(device)
        self._past = [{layer: (pair[0], pair[1]) for layer, pair in past[i].items()} for i in range(len(past))]

    @torch.no_grad()
    def _current(self) -> dict[int, tuple[Tensor, Tensor]]:
        gates = {i: cast(Block, self._model.layers[i]).ffn.gate for i in learned_layers(self._model)}
        return {i: (gate.weight.detach().clone(), gate.get_buffer("bias").clone()) for i, gate in gates.items()}
