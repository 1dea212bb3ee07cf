"""The last states of a run in host memory, to go back to.

Covers: weights, buffers, optimiser, random states and the watch over spikes, taken before a step. The step is the data
cursor too, since a batch is a function of it. Does not cover: when to go back (`stabilise`), disk (`checkpoint`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from octavo.model.transformer import Transformer
from octavo.train.optim import Optimizer


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """The state before `step`: tensors in host memory, by name; `watch` as `Watch.state` gives it."""

    step: int
    optimizer_steps: int
    tensors: dict[str, Tensor]
    watch: dict[str, Any]


class Snapshots:
    """At most `keep` snapshots, oldest first."""

    def __init__(self, model: Transformer, optimizer: Optimizer, *, keep: int) -> None:
        self._model, self._optimizer, self._keep = model, optimizer, keep
        self._kept: list[Snapshot] = []

    @property
    def steps(self) -> list[int]:
        """Which steps can be gone back to."""
        return [one.step for one in self._kept]

    def take(self, step: int, watch: dict[str, Any]) -> None:
        """Keep the state before `step`; the oldest beyond `keep` goes."""
        live = live_state(self._model, self._optimizer)
        tensors = {name: value.detach().to("cpu", copy=True) for name, value in live.items()}
        made = Snapshot(
            step=step, optimizer_steps=self._optimizer.step_count, tensors=tensors | random_states(), watch=watch
        )
        self._kept = [one for one in self._kept if one.step < step][1 - self._keep :] if self._keep > 1 else []
        self._kept.append(made)

    def back_to(self, latest: int) -> Snapshot | None:
        """Restore the youngest snapshot at or before `latest` and forget younger ones; None, and nothing done, if
        there is none."""
        old = [one for one in self._kept if one.step <= latest]
        if not old:
            return None
        found, self._kept = old[-1], old
        with torch.no_grad():
            for name, value in live_state(self._model, self._optimizer).items():
                value.copy_(found.tensors[name])
        set_random_states(found.tensors)
        self._optimizer.step_count = found.optimizer_steps
        return found

    def state(self) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
        """All snapshots, for a checkpoint: tensors by number and name, and the rest."""
        tensors = {f"{i}.{name}": value for i, one in enumerate(self._kept) for name, value in one.tensors.items()}
        rest = [{"step": s.step, "optimizer_steps": s.optimizer_steps, "watch": s.watch} for s in self._kept]
        return tensors, rest

    def restore(self, tensors: dict[str, Tensor], rest: list[dict[str, Any]]) -> None:
        """Take over what `state` gave."""
        parts = [{k.split(".", 1)[1]: v for k, v in tensors.items() if k.startswith(f"{i}.")} for i in range(len(rest))]
        self._kept = [Snapshot(tensors=own, **one) for own, one in zip(parts, rest, strict=True)]


def live_state(model: Transformer, optimizer: Optimizer) -> dict[str, Tensor]:
    """Weights, buffers and optimiser state by the names that snapshots and checkpoints use; not copies."""
    live = {f"model.{name}": value for name, value in model.state_dict().items()}
    for name, kinds in optimizer.state.items():
        live |= {f"optim.{kind}.{name}": value for kind, value in kinds.items()}
    return live


def random_states() -> dict[str, Tensor]:
    """The states of torch's generators: of the CPU, and of the current GPU if there is one in use."""
    states = {"random.cpu": torch.get_rng_state()}
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        states["random.cuda"] = torch.cuda.get_rng_state()
    return states


def set_random_states(states: dict[str, Tensor]) -> None:
    """Put back what `random_states` gave; states of devices that are not there are left out."""
    setters: dict[str, Callable[[Tensor], None]] = {"random.cpu": torch.set_rng_state}
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        setters["random.cuda"] = torch.cuda.set_rng_state
    for name, setter in setters.items():
        if name in states:
            setter(states[name])
