"""The training loop: batches in, steps, log lines and checkpoints out, until the schedule or the time ends.

Covers: resume; saving at the end and every few minutes; spikes and what is done about them; several ranks, of which the
first logs and saves, or all save where parameters are spread over them (`parallel`). Does not cover, of spread runs:
looks, and why a step was skipped.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from octavo.config.errors import UsageError
from octavo.config.model import DraftKind
from octavo.config.official import read_config
from octavo.model.checkpoint import load_weights
from octavo.model.init import init_weights
from octavo.model.transformer import Transformer
from octavo.train import checkpoint
from octavo.train.batches import Batches, Feed, to_device
from octavo.train.explain import first_nonfinite
from octavo.train.lines import Tally, step_line
from octavo.train.log import RunLog
from octavo.train.looks import Looks
from octavo.train.optim import Optimizer
from octavo.train.parallel import checkpoint as spread
from octavo.train.parallel.owners import Owners
from octavo.train.parallel.ranks import Ranks
from octavo.train.parallel.sharding import shard
from octavo.train.recipes import Recipe
from octavo.train.rounding import RoundedWeights
from octavo.train.routing import Prepare
from octavo.train.schedule import StepPlan
from octavo.train.speed import least_seconds, product_rate
from octavo.train.stabilise import Answer, Stabiliser
from octavo.train.step import Batch, StepReport, recompute_layers, train_step

Show = Callable[[dict[str, Any]], None]
BeforeStep = Callable[[int, Transformer], None]


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Where and how long: output folder, seconds (None: to the end of the schedule), seconds between checkpoints,
    device, micro-batches a step (more than 1 saves memory), a folder of weights to start from instead of random ones
    (the optimiser starts anew), a folder that gets the weights in the release format when the run stops, and steps
    between log lines. `save_last`: whether a run that ends leaves a checkpoint."""

    out: Path
    max_seconds: float | None = None
    save_seconds: float = 240.0
    save_last: bool = True
    device: str = "cpu"
    micro_batches: int = 1
    resume: bool = True
    start: Path | None = None
    weights: Path | None = None
    log_every: int = 10


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """How a run ended."""

    steps: int
    finished: bool
    model: Transformer
    last: dict[str, Any]


def train(
    recipe: Recipe,
    feed: Feed,
    options: RunOptions,
    *,
    engram_map: np.ndarray | None = None,
    ranks: Ranks | None = None,
    show: Show | None = None,
    before_step: BeforeStep | None = None,
) -> RunResult:
    """Run `recipe` to its end or for `max_seconds`. `feed(step)` yields this rank's batches of steps step, step + 1,
    ...: arrays tokens [B, S], weight [B, S], positions [B, S], kind [B, S] if kinds are told apart, dilution [B] if
    rows are to count as parts of longer contexts, document [B, S] if rows hold several. `engram_map` [V] is the
    tokenizer's compression for Engram. `show` gets what each line of the log says. `before_step`, for experiments, may
    change the model before a step, which it meets again if the run goes back.

    Raises TrainingError where spikes end the run, CheckpointError for a checkpoint that cannot be read or written.
    """
    started = time.monotonic()
    run = _Run(recipe, options, ranks or Ranks(), engram_map, show)
    if run.step < recipe.schedule.steps:
        with Batches(feed, run.step) as batches:
            run.go(batches, started, before_step)
    return RunResult(steps=run.step, finished=run.step >= recipe.schedule.steps, model=run.model, last=run.last)


class _Run:
    """A run under way; `step` steps are done."""

    def __init__(
        self, recipe: Recipe, options: RunOptions, ranks: Ranks, engram_map: np.ndarray | None, show: Show | None
    ) -> None:
        self.recipe, self.options, self.ranks, self._show = recipe, options, ranks, show
        if ranks.count > 1 and recipe.stabilise.answer is not Answer.NONE:
            raise UsageError(f"answer {recipe.stabilise.answer} to spikes needs one rank, there are {ranks.count}")
        self.device = torch.device(options.device)
        if self.device.type == "cuda":
            torch.set_float32_matmul_precision("high")
        torch.manual_seed(recipe.seed)  # two runs draw alike, should anything draw; a checkpoint puts the states back
        self.model = _build(recipe, self.device, engram_map, options.start)
        owners, looks = None, recipe.stabilise
        if ranks.mesh is not None:
            owners, looks = Owners(ranks.mesh.shard_group), replace(looks, look_every=None)
            shard(self.model, ranks.mesh)
        self.model.to(self.device)
        trained = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
        if recipe.rounded is not None and ranks.mesh is not None:
            raise UsageError(f"recipe {recipe.name!r} rounds weights, for which every rank must hold them all")
        self.rounded = None if recipe.rounded is None else RoundedWeights(self.model, recipe.model, recipe.rounded)
        self.optimizer = Optimizer(trained, recipe.model, recipe.optim, owners)
        self.stabiliser = Stabiliser(self.model, self.optimizer, recipe.stabilise)
        self.looks, self.tally = Looks(self.model, looks), Tally()
        self.log = RunLog(options.out / "log.jsonl") if ranks.first else None
        self.step, self.last, self._folder = 0, {}, options.out / "checkpoint"
        if options.resume and (self._folder.exists() or self._folder.with_name("checkpoint.old").exists()):
            self.step = self._load()
        elif self.log is not None:
            self.log.empty()
        self._plain = {layer: layer.forward for layer in self.model.layers}

    def go(self, batches: Batches, started: float, before_step: BeforeStep | None) -> None:
        """Steps until the schedule or the time ends."""
        prepare = Prepare(lambda step: self._prepared(batches, step), self.recipe.schedule.steps)
        saved, since, tokens, last = time.monotonic(), time.monotonic(), 0, False
        while not last:
            if before_step is not None:
                before_step(self.step, self.model)
            plan, report = self._one(batches, prepare)
            tokens += batches.at(self.step)["tokens"].size * self.ranks.share[1]
            if self._went_back(report, plan, batches):
                continue
            self.step += 1
            batches.drop(self.step)
            done, look = self.step == self.recipe.schedule.steps, self.step % self.options.log_every == 0
            if look or done:
                self._say(report, plan, tokens, max(time.monotonic() - since, 1e-9))
                tokens, since = 0, time.monotonic()
            now = time.monotonic()
            last = done or self._out_of_time(now - started, look)
            if self._save(now - saved > self.options.save_seconds, look, last):
                saved = time.monotonic()
        for layer, forward in self._plain.items():
            layer.forward = forward

    def _one(self, batches: Batches, prepare: Prepare) -> tuple[StepPlan, StepReport]:
        """Do the next step; one whose gradient is not finite is explained."""
        parts, plan = prepare(self.step)
        self.looks.look(self.step, parts, plan)
        routing = self.stabiliser.before(self.step, parts, prepare)
        if routing is not None:  # batches of other lengths may have been looked at
            _set_recompute(self.model, self._plain, plan, self.recipe)
        report = train_step(
            self.model, self.optimizer, parts, plan, self.recipe.weights, self.ranks, routing, self.rounded
        )
        self.tally.add(report)
        if report.skipped:
            why = None if self.ranks.mesh is not None else first_nonfinite(self.model, parts, plan, routing)
            self._write({"event": "skipped", "step": self.step, "first_nonfinite": why, "skipped": self.tally.skipped})
        return plan, report

    def _prepared(self, batches: Batches, step: int) -> tuple[list[Batch], StepPlan]:
        plan = self.recipe.schedule.plan(step)
        _set_recompute(self.model, self._plain, plan, self.recipe)
        return to_device(batches.at(step), self.device, self.options.micro_batches), plan

    def _went_back(self, report: StepReport, plan: StepPlan, batches: Batches) -> bool:
        """Whether the step was a spike that sent the run back to an earlier one."""
        spike = self.stabiliser.after(self.step, plan.stage, *report.judged)
        if spike is None:
            return False
        self._write(
            {"event": "spike", "step": spike.step, "why": spike.why, "back_to": spike.back_to,
             "spikes": self.stabiliser.spikes, "rollbacks": self.stabiliser.rollbacks}
        )  # fmt: skip
        if spike.back_to is None:
            return False
        self.step = spike.back_to
        batches.back_to(self.step)
        self.looks.back_to(self.step)
        return True

    def _say(self, report: StepReport, plan: StepPlan, tokens: int, seconds: float) -> None:
        """Write the line of the step that was just done."""
        least = least_seconds(self.recipe.model, tokens, product_rate(self.device) * self.ranks.count)
        self.last = step_line(report, plan) | {
            "skipped": self.tally.skipped, "spikes": self.stabiliser.spikes, "rollbacks": self.stabiliser.rollbacks,
            "other_routing": self.stabiliser.routed(self.step - 1), "tokens_per_s": tokens / seconds,
            "mfu": least / seconds, **self.looks.said(),
        }  # fmt: skip
        self._write({"step": self.step - 1, **self.last})

    def _write(self, values: dict[str, Any]) -> None:
        if self.log is not None:
            self.log.write(values)
            if self._show is not None:
                self._show(values)

    def _out_of_time(self, seconds: float, look: bool) -> bool:
        late = self.options.max_seconds is not None and seconds > self.options.max_seconds
        if self.ranks.count > 1:  # all stop together, and agreeing at every step would make them wait for each other
            return look and self.ranks.agreed(late, self.device)
        return late

    def _load(self) -> int:
        """Go on from the checkpoint; how many steps were done."""
        given = {"recipe": self.recipe.name, "parts": self._parts()}
        if self.ranks.mesh is not None or spread.is_spread(self._folder):
            return spread.load(self._folder, self.model, self.optimizer, self.ranks, **given)
        return checkpoint.load(self._folder, self.model, self.optimizer, **given)

    def _save(self, late: bool, look: bool, last: bool) -> bool:
        """Save if it is the last step or late; whether that was so."""
        last = last and self.options.save_last
        given = {"step": self.step, "recipe": self.recipe.name, "parts": self._parts()}
        if self.ranks.mesh is not None:  # all save together, and agree at a step where they wait anyway
            due = last or (look and self.ranks.agreed(late, self.device))
            if due:
                spread.save(self._folder, self.model, self.optimizer, self.ranks, **given)
            return due
        due = late or last
        if due and self.ranks.first:
            checkpoint.save(self._folder, self.model, self.optimizer, **given)
        return due

    def _parts(self) -> dict[str, checkpoint.Part]:
        """What belongs to a checkpoint beside model and optimiser."""
        parts: dict[str, checkpoint.Part] = {"stabilise": self.stabiliser, "looks": self.looks, "tally": self.tally}
        return parts if self.log is None else parts | {"log": self.log}


def _build(
    recipe: Recipe, device: torch.device, engram_map: np.ndarray | None, start: Path | None = None
) -> Transformer:
    model = Transformer(recipe.model, compute_dtype=torch.bfloat16 if device.type == "cuda" else None)
    init_weights(model, seed=recipe.seed)
    if start is not None:
        _begin_with(model, start)
    for name, p in model.named_parameters():
        p.requires_grad_(not recipe.only or name.startswith(recipe.only))
    if engram_map is not None:
        model.get_buffer("engram_map").copy_(torch.from_numpy(engram_map.astype(np.int64)))
    return model


def _begin_with(model: Transformer, folder: Path) -> None:
    """Take the weights of `folder`; an MTP block that they lack stays as it was initialised."""
    predictor = model.mtp if hasattr(model, "mtp") and read_config(folder).mtp_kind is not DraftKind.MTP else None
    if predictor is not None:
        del model.mtp
    load_weights(model, folder, torch.float32)
    if predictor is not None:
        model.mtp = predictor


def _set_recompute(model: Transformer, plain: dict, plan: StepPlan, recipe: Recipe) -> None:
    for layer, forward in plain.items():
        layer.forward = forward
    if plan.row_length >= recipe.recompute_from:
        recompute_layers(model)
