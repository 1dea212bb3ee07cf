"""What a run does about spikes: nothing, go back, or go back and choose experts by older weights for a while.

Covers: the answers as options, the controller that takes snapshots, goes back and switches the routing, its state for
a checkpoint. Does not cover: the rule (`spikes`), the copies (`snapshots`), the routing itself (`routing`), the clamp
(`ModelConfig.swiglu_limit`). Source: DeepSeek-V4 report, section on mitigating training instability; sizes that it does
not give are ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from torch import Tensor

from octavo.cache.view import Routed
from octavo.config.errors import CheckpointError, ConfigError, TrainingError
from octavo.model.transformer import Transformer
from octavo.train.optim import Optimizer
from octavo.train.routing import Prepare, RouteAhead, StaleRouters
from octavo.train.snapshots import Snapshots
from octavo.train.spikes import SpikeRule, Watch
from octavo.train.step import Batch


class Answer(StrEnum):
    """What follows a spike: nothing; going back and doing the same again; going back and taking experts that the model
    of `lag` steps before chose (Anticipatory Routing); going back and letting routers of `lag` steps before choose."""

    NONE = "none"
    ROLLBACK = "rollback"
    AHEAD = "ahead"
    STALE = "stale"


@dataclass(frozen=True, kw_only=True)
class Stabilise:
    """Spikes and their answer. A snapshot is taken every `every` steps, `keep` are held; a spike goes back to the
    youngest that is at least `before` steps older, and the other routing stays on for `hold` steps from there. A spike
    after `rollbacks` of them ends the run, or changes nothing if `go_on`. `always`: the other routing is on from the
    first step. Every `look_every` steps (None: never) some `look_tokens` tokens are looked at (`looks`)."""

    answer: Answer = Answer.NONE
    rule: SpikeRule = field(default_factory=SpikeRule)
    lag: int = 16
    hold: int = 500
    every: int = 25
    keep: int = 4
    before: int = 10
    rollbacks: int = 3
    go_on: bool = False
    always: bool = False
    look_every: int | None = 50
    look_tokens: int = 4096

    def __post_init__(self) -> None:
        for name, least in (
            ("lag", 0), ("hold", 1), ("every", 1), ("keep", 1), ("before", 0), ("rollbacks", 0), ("look_tokens", 1)
        ):  # fmt: skip
            if getattr(self, name) < least:
                raise ConfigError(f"stabilise: {name} is {getattr(self, name)}; it must be at least {least}")
        if self.look_every is not None and self.look_every <= self.lag:
            raise ConfigError(f"stabilise: look_every is {self.look_every}; it must be above lag {self.lag}")
        if self.always and self.answer not in (Answer.AHEAD, Answer.STALE):
            raise ConfigError(f"stabilise: always needs another routing, answer is {self.answer}")


@dataclass(frozen=True, kw_only=True)
class Spike:
    """A step that was a spike, and why; the step that the run goes back to (None: it goes on)."""

    step: int
    why: str
    back_to: int | None


class Stabiliser:
    """Watches a run's steps and answers its spikes. Call `before` and `after` each step."""

    def __init__(self, model: Transformer, optimizer: Optimizer, config: Stabilise) -> None:
        self.config = config
        self.spikes = self.rollbacks = 0
        self._watch = Watch(config.rule)
        self._snapshots = Snapshots(model, optimizer, keep=config.keep)
        routings = {Answer.AHEAD: RouteAhead, Answer.STALE: StaleRouters}
        made = routings.get(config.answer)
        self._routing = None if made is None else made(model, config.lag)
        self._until: int | None = 0  # the step from which the usual routing is on again; None: never
        self._begins = config.always

    def before(self, step: int, batches: Sequence[Batch], prepare: Prepare) -> list[dict[int, Routed]] | None:
        """Take a snapshot if it is time; the routing of this step's `batches`, None for the usual one."""
        if self.config.answer is not Answer.NONE and step % self.config.every == 0 and step not in self.steps:
            self._snapshots.take(step, self._watch.state())
        if self._routing is None:
            return None
        if self._begins:
            self._begins, self._until = False, None if self.config.always else step + self.config.hold
            self._routing.begin(step, prepare)
        if not self.routed(step):
            return None
        return self._routing.routing(step, batches, prepare)

    def after(self, step: int, stage: str, loss: float, norm: float) -> Spike | None:
        """Judge a step that was done; if the answer is to go back, that has happened when this returns. Raises
        TrainingError for one spike too many."""
        why = self._watch.judge(stage, loss, norm)
        if why is None:
            return None
        self.spikes += 1
        if self.config.answer is Answer.NONE or (self.rollbacks == self.config.rollbacks and self.config.go_on):
            return Spike(step=step, why=why, back_to=None)
        if self.rollbacks == self.config.rollbacks:
            raise TrainingError(
                f"step {step}: {why}, after {self.rollbacks} rollbacks, the most that are allowed; the last checkpoint "
                f"is as it was"
            )
        found = self._snapshots.back_to(step - self.config.before)
        if found is None:
            return Spike(step=step, why=f"{why}; no snapshot is {self.config.before} steps older", back_to=None)
        self._watch.restore(found.watch)
        self.rollbacks += 1
        self._begins = self._routing is not None
        return Spike(step=step, why=why, back_to=found.step)

    def routed(self, step: int) -> bool:
        """Whether `step` takes another routing than the usual one."""
        return self._routing is not None and (self._until is None or step < self._until)

    @property
    def steps(self) -> list[int]:
        """Steps that can be gone back to."""
        return self._snapshots.steps

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Everything that a run needs to go on exactly, snapshots included."""
        tensors, snapshots = self._snapshots.state()
        tensors = {f"snapshot.{name}": value for name, value in tensors.items()}
        if self._routing is not None:
            tensors |= {f"routing.{name}": value for name, value in self._routing.state().items()}
        values = {
            "config": asdict(self.config), "watch": self._watch.state(), "snapshots": snapshots, "spikes": self.spikes,
            "rollbacks": self.rollbacks, "until": self._until, "begins": self._begins,
        }  # fmt: skip
        return tensors, values

    def check(self, values: Mapping[str, Any]) -> None:
        """Raise CheckpointError unless `values` are of a run with these options."""
        for name, wanted in asdict(self.config).items():
            if values["config"].get(name) != wanted:
                raise CheckpointError(f"stabilise: {name} is {values['config'].get(name)!r}, the recipe has {wanted!r}")

    def restore(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """Go on from what `state` gave."""
        parts = {
            kind: {name.split(".", 1)[1]: value for name, value in tensors.items() if name.startswith(kind + ".")}
            for kind in ("snapshot", "routing")
        }
        self._snapshots.restore(parts["snapshot"], values["snapshots"])
        if self._routing is not None:
            self._routing.restore(parts["routing"])
        self._watch.restore(values["watch"])
        self.spikes, self.rollbacks = values["spikes"], values["rollbacks"]
        self._until, self._begins = values["until"], values["begins"]
