"""Stages of a run and the learning rate of every step.

Covers: `Stage`, `Schedule` (which stage a step is in, its rate, its row length, its number of picks). Does not cover:
data, time limits. Everything is a pure function of the step, so a resumed run continues exactly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from octavo.cache.view import Picks
from octavo.data.shares import Mix


@dataclass(frozen=True, kw_only=True)
class Stage:
    """`steps` optimiser steps with rows of `row_lengths` (drawn by `shares`), CSA picks `topk` (one drawn a step;
    empty: all entries), and a rate that moves from `rate` to `final_rate` along a cosine; `warmup` steps rise linearly
    first. `skips`, `dilute`: shares of rows with position skips, and of rows whose HCA entries weigh as those of a
    longer context. `mix`: the kinds of row and of question."""

    name: str
    steps: int
    row_lengths: tuple[int, ...]
    shares: tuple[float, ...] = (1.0,)
    topk: tuple[int, ...] = ()
    rate: float = 1.0
    final_rate: float = 1.0
    warmup: int = 0
    skips: float = 0.0
    dilute: float = 0.0
    mix: Mix = field(default_factory=Mix)

    @property
    def picks(self) -> Picks:
        return Picks.INDEX if self.topk else Picks.ALL


@dataclass(frozen=True, kw_only=True)
class StepPlan:
    """What one step does."""

    stage: str
    row_length: int
    topk: int | None
    picks: Picks
    rate: float
    skips: float
    dilute: float = 0.0
    mix: Mix = field(default_factory=Mix)

    @property
    def index_every(self) -> int:
        """Every which query teaches the indexer: all of short rows, an odd share of long ones, whose cost would grow
        with the square of the length."""
        return 1 if self.row_length < 1024 else max(5, self.row_length // 1536 | 1)


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Stages in order."""

    stages: tuple[Stage, ...]
    seed: int = 0

    @property
    def steps(self) -> int:
        return sum(s.steps for s in self.stages)

    def plan(self, step: int) -> StepPlan:
        """The plan of step 0 .. steps - 1."""
        within = step
        for stage in self.stages:
            if within < stage.steps:
                break
            within -= stage.steps
        else:
            raise ValueError(f"step {step} is beyond the schedule's {self.steps} steps")
        draw = np.random.default_rng((self.seed, step))
        length = int(draw.choice(stage.row_lengths, p=np.asarray(stage.shares) / sum(stage.shares)))
        topk = int(draw.choice(stage.topk)) if stage.topk else None
        progress = (within - stage.warmup) / max(1, stage.steps - stage.warmup)
        rate = stage.final_rate + (stage.rate - stage.final_rate) * 0.5 * (1 + math.cos(math.pi * max(0.0, progress)))
        if within < stage.warmup:
            rate = stage.rate * (within + 1) / stage.warmup
        return StepPlan(
            stage=stage.name,
            row_length=length,
            topk=topk,
            picks=stage.picks,
            rate=rate,
            skips=stage.skips,
            dilute=stage.dilute,
            mix=stage.mix,
        )
