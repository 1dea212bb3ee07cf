"""What is run: faults, arms, their order, and the recipe and the batches of each run.

Faults, at one step of a run at a constant rate: `rate`, `--hot` times the rate for twenty steps; `expert`, the gate
and up matrices of one expert times `--grown`; `token`, `--same` batches of one token repeated. A fault belongs to its
step: a run that goes back meets it again, as it would meet bad data.

Arms: `none`; `clamp`, of the experts' activation; `ahead`, Anticipatory Routing after going back; `clamp+ahead`;
`rollback`, going back and the same again; `stale`, going back, then old routers on current features. An arm goes back
`--rollbacks` times at most and then goes on, so that every run ends. The twin of an arm is the run without a fault,
with the clamp as in the arm. Two controls have no fault: `again` is the twin once more, which on a GPU is not the same
to the last bit; `always`, Anticipatory Routing all the time.

Does not cover: running (`work`).
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple, cast

import numpy as np
import torch

from octavo.data.loader import Loader, RowPlan
from octavo.data.rows import Mix
from octavo.model.block import Block
from octavo.model.transformer import Transformer
from octavo.train.batches import Feed
from octavo.train.recipes import Recipe, recipe
from octavo.train.routing import learned_layers
from octavo.train.schedule import Schedule, Stage, StepPlan
from octavo.train.spikes import SpikeRule
from octavo.train.stabilise import Answer, Stabilise

HOT_STEPS = 20
LOOK_EVERY = 20
NO_FAULT, FAULTS = "nothing", ("rate", "expert", "token")


class Arm(NamedTuple):
    """Whether the clamp is on, what follows a spike, whether the other routing is on from the first step."""

    clamp: bool
    answer: Answer
    always: bool = False


ARMS = {
    "none": Arm(False, Answer.NONE), "clamp": Arm(True, Answer.NONE), "ahead": Arm(False, Answer.AHEAD),
    "clamp+ahead": Arm(True, Answer.AHEAD), "rollback": Arm(False, Answer.ROLLBACK), "stale": Arm(False, Answer.STALE),
}  # fmt: skip
CONTROLS = {"again": Arm(False, Answer.NONE), "always": Arm(False, Answer.AHEAD, True)}


@dataclass(frozen=True)
class Unit:
    """One run."""

    seed: int
    fault: str
    arm: str

    @property
    def name(self) -> str:
        return f"{self.seed}-{self.fault}-{self.arm}"

    @property
    def is_(self) -> Arm:
        """What the arm's name means."""
        return CONTROLS[self.arm] if self.arm in CONTROLS else ARMS[self.arm]

    @property
    def twin(self) -> Unit:
        """The run without the fault; arms that answer spikes are `none` or `clamp` as long as there are none."""
        return Unit(self.seed, NO_FAULT, "clamp" if self.is_.clamp else "none")


@dataclass(frozen=True, kw_only=True)
class HotSchedule(Schedule):
    """A schedule whose rate is `hot` times as high for a while."""

    at: int
    hot: float

    def plan(self, step: int) -> StepPlan:
        plan = super().plan(step)
        return replace(plan, rate=plan.rate * self.hot) if self.at <= step < self.at + HOT_STEPS else plan


def units_of(options: argparse.Namespace) -> list[Unit]:
    """All units, twins before the runs that are compared with them, one seed after the other."""
    found = []
    for seed in range(options.seeds):
        own = [Unit(seed, fault, arm) for fault, arm in itertools.product(options.faults, options.arms)]
        controls = [Unit(seed, NO_FAULT, arm) for arm in CONTROLS] if "ahead" in options.arms else []
        found += list(dict.fromkeys(unit.twin for unit in controls + own)) + own + controls
    return found


def branch_step(options: argparse.Namespace) -> int:
    """Up to here a run is its twin: the last step before the fault whose snapshot a spike at the fault goes back to; 0
    for a fault so early that runs have nothing in common."""
    usual = Stabilise()
    return max(0, options.at - usual.before) // usual.every * usual.every


def recipe_of(unit: Unit, options: argparse.Namespace, *, vocabulary: int, steps: int | None = None) -> Recipe:
    """The recipe of a unit, for a tokenizer of so many ids: one stage of `steps` (all) steps at a constant rate."""
    base, arm = recipe(options.recipe), unit.is_
    stage = Stage(
        name="ablation", steps=steps or options.steps, row_lengths=(options.rows,), topk=(options.picks,),
        warmup=options.warmup,
    )  # fmt: skip
    schedule = Schedule(stages=(stage,), seed=unit.seed)
    if unit.fault == "rate":
        schedule = HotSchedule(stages=(stage,), seed=unit.seed, at=options.at, hot=options.hot)
    rule = SpikeRule(
        window=options.window, least=options.window // 2, floor=options.floor, deviations=options.deviations
    )
    stabilise = Stabilise(
        answer=arm.answer, rule=rule, rollbacks=options.rollbacks, always=arm.always, hold=options.hold,
        go_on=True, look_every=LOOK_EVERY, look_tokens=options.look_tokens,
    )  # fmt: skip
    model = base.model.changed(vocab_size=vocabulary)
    return replace(
        base, name=f"stabilisers-{unit.name}", schedule=schedule, tokens_per_step=options.tokens, stabilise=stabilise,
        seed=base.seed + unit.seed, model=model if arm.clamp else model.changed(swiglu_limit=None),
    )  # fmt: skip


def plan_of(options: argparse.Namespace) -> RowPlan:
    """The rows of every step."""
    return RowPlan(row_length=options.rows, mix=Mix(plain=options.plain))


def feed_of(chosen: Recipe, unit: Unit, options: argparse.Namespace) -> Feed:
    """The batches of a unit; the fault `token` is one of them."""
    rows = [plan_of(options)] * options.steps
    files = options.pack, options.tokenizer / "tokenizer.json"

    def feed(step: int) -> Iterator[dict[str, np.ndarray]]:
        given = {"seed": chosen.seed, "workers": options.workers, "start": step}
        with Loader(*files, rows, chosen.tokens_per_step, **given) as loader:
            for at, batch in enumerate(loader, step):
                made = {name: batch[name] for name in ("tokens", "weight", "positions", "kind", "dilution")}
                if unit.fault == "token" and options.at <= at < options.at + options.same:
                    made["tokens"] = np.full_like(made["tokens"], made["tokens"][0, 1])
                yield made

    return feed


def grow_expert(step: int, model: Transformer, options: argparse.Namespace) -> None:
    """The fault `expert`: the first expert of the middle one of the learned layers."""
    if step == options.at:
        layers = learned_layers(model)
        experts = cast(Block, model.layers[layers[len(layers) // 2]]).ffn.experts
        with torch.no_grad():
            experts.w1[0].mul_(options.grown)
            experts.w3[0].mul_(options.grown)
