"""Named runs of reinforcement learning.

Covers: what is asked, how many answers are drawn, the objective, rates. Does not cover: how (`loop`).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from octavo.config.errors import ConfigError, UsageError
from octavo.data.shares import Mix
from octavo.train.optim import OptimConfig
from octavo.train.reinforce.objective import Objective
from octavo.train.reinforce.prompts import Asked
from octavo.train.reinforce.rollout import Drawing

_LINKED = Mix(
    multi_key=0.1, multi_value=0.15, two_hop=0.25, two_hop_steps=0.1, tracking=0.15, ordering=0.1, counting=0.05
)
_SLOW = OptimConfig(matrix_lr=5e-5, embedding_lr=5e-5, scalar_lr=5e-5, table_lr=5e-5, decay=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """A run. asked: kinds of prompt. prompts, group: prompts of a step, answers to each. updates: steps of the
    optimiser over one set of answers. rows: of a part that is computed at once. clip: of the gradient's norm. warmup:
    steps in which the rate rises. dev: prompts of the look before and after. partial: see `reward.Verifier`. patience,
    least: the run ends after so many steps if fewer than this share of prompts had any right answer.

    Raises ConfigError for a number that is out of range.
    """

    name: str
    asked: Asked
    steps: int
    prompts: int
    group: int
    drawing: Drawing
    objective: Objective = field(default_factory=Objective)
    updates: int = 1
    rows: int = 16
    optim: OptimConfig = _SLOW
    clip: float = 1.0
    warmup: int = 5
    seed: int = 2026
    dev: int = 128
    partial: bool = False
    patience: int = 10
    least: float = 0.1

    def __post_init__(self) -> None:
        for name in ("steps", "prompts", "updates", "rows", "dev", "patience"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.group < 2:
            raise ConfigError(f"group is {self.group}; answers are compared with each other, so there must be 2")
        if self.drawing.temperature <= 0:
            raise ConfigError(f"temperature is {self.drawing.temperature}; answers that are all alike teach nothing")

    def rate(self, step: int) -> float:
        """The rate of a step, as a share of the full one."""
        return min(1.0, (step + 1) / max(self.warmup, 1))


def octavo_s_reinforced() -> Settings:
    """From the weights of `octavo-s-taught`: functions to write, and two prompts in five that are answered from
    what was read, most of them of the kinds that hang on several statements, which plain training answers worst.

    Sixteen answers to a prompt tell a chance of one in ten apart from none four times in five. The temperature is that
    of the model itself. One update for each set of answers: they are drawn faster than they are learned from at this
    size, and at the weights that drew them the ratio is 1. Wide upper limit of the clip as in DAPO, section 3.1.
    """
    return Settings(
        name="octavo-s-reinforced", steps=200, prompts=32, group=16,
        asked=Asked(program=0.6, recall=0.1, row=0.3, mix=_LINKED),
        drawing=Drawing(max_tokens=192), objective=Objective(clip_high=0.28),
    )  # fmt: skip


def octavo_s_brief() -> Settings:
    """As `octavo-s-reinforced` for two minutes of one GPU: most of its time goes into drawing functions, 8 sequences a
    step, so there are few prompts, and a larger rate for as few updates as that leaves."""
    rate = 2e-4
    return replace(
        octavo_s_reinforced(), name="octavo-s-brief", steps=8, prompts=8, dev=48, warmup=2,
        drawing=Drawing(max_tokens=160),
        optim=replace(_SLOW, matrix_lr=rate, embedding_lr=rate, scalar_lr=rate, table_lr=rate),
    )  # fmt: skip


def trial() -> Settings:
    """Minutes on one core, to see that everything works, from weights such as `octavo-xs`, which know no JavaScript: a
    few prompts of rows as they were trained on, short answers."""
    return replace(
        octavo_s_reinforced(), name="trial", steps=6, prompts=8, group=8, rows=8,
        asked=Asked(program=0.1, row=0.9, row_length=384), drawing=Drawing(max_tokens=40), warmup=1, dev=32, patience=6,
    )  # fmt: skip


SETTINGS = {"octavo-s-reinforced": octavo_s_reinforced, "octavo-s-brief": octavo_s_brief, "trial": trial}


def settings(name: str) -> Settings:
    """The settings called `name`; raises UsageError naming the known ones."""
    if name not in SETTINGS:
        raise UsageError(f"settings {name!r} are not known; there are {', '.join(sorted(SETTINGS))}")
    return SETTINGS[name]()
