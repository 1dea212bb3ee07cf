"""What the two stabilisers do: three faults, six arms, some seeds, each against a twin without the fault.

Faults, at one step of a run at a constant rate: `rate`, `--hot` times the rate for twenty steps; `expert`, the gate
and up matrices of one expert times `--grown`; `token`, two batches of one token repeated. A fault belongs to its step:
a run that goes back meets it again, as it would meet bad data.

Arms: `none`; `clamp`, of the experts' activation; `ahead`, Anticipatory Routing after going back; `clamp+ahead`;
`rollback`, going back and the same again; `stale`, going back, then old routers on current features. An arm goes back
`--rollbacks` times at most and then goes on, so that every run ends. The twin of an arm is the run without a fault,
with the clamp as in the arm.

Covers: running what is missing of all units (seed, fault, arm) until `--minutes` are over; a unit that was cut off
goes on exactly. Each writes its log to OUT/<unit>/log.jsonl and, once done, one line to OUT/units.jsonl;
OUT/summary.json and the table compare units with their twins, as means over seeds. Looks at clamp and churn are taken
every `LOOK_EVERY` steps: let `--at` be a multiple of it. Does not cover: what the numbers mean.

    python -m runs.stabilisers --pack PACK --tokenizer weights/octavo-xs --out OUT --device cuda --minutes 25
    python -m runs.stabilisers --pack PACK --tokenizer weights/octavo-xs --out OUT --recipe tiny --steps 80 --at 40 \
        --rows 256 --tokens 1024 --seeds 1 --window 24 --hot 60 --deviations 2
"""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
import statistics
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from octavo.data.loader import Loader, RowPlan
from octavo.model.transformer import Transformer
from octavo.train.batches import Feed
from octavo.train.loop import RunOptions, train
from octavo.train.recipes import Recipe, recipe
from octavo.train.routing import learned_layers
from octavo.train.run import with_vocabulary
from octavo.train.schedule import Schedule, Stage, StepPlan
from octavo.train.spikes import SpikeRule
from octavo.train.stabilise import Answer, Stabilise

HOT_STEPS, SAME_STEPS = 20, 2
LOOK_EVERY = 20
NO_FAULT, FAULTS = "nothing", ("rate", "expert", "token")
ARMS = {  # clamp, answer
    "none": (False, Answer.NONE), "clamp": (True, Answer.NONE), "ahead": (False, Answer.AHEAD),
    "clamp+ahead": (True, Answer.AHEAD), "rollback": (False, Answer.ROLLBACK), "stale": (False, Answer.STALE),
}  # fmt: skip
SMOOTH, NEAR, LAST = 0.9, 0.02, 20  # of the mean that recovers, how near it must come, steps of the final loss


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
    def twin(self) -> Unit:
        """The run without the fault; arms that answer spikes are `none` or `clamp` as long as there are none."""
        return Unit(self.seed, NO_FAULT, "clamp" if ARMS[self.arm][0] else "none")


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
        found += list(dict.fromkeys(unit.twin for unit in own)) + own
    return found


def recipe_of(unit: Unit, options: argparse.Namespace) -> Recipe:
    """The recipe of a unit: one stage at a constant rate."""
    base, (clamp, answer) = recipe(options.recipe), ARMS[unit.arm]
    stage = Stage(
        name="ablation", steps=options.steps, row_lengths=(options.rows,), topk=(options.picks,), warmup=options.warmup
    )
    schedule = Schedule(stages=(stage,), seed=unit.seed)
    if unit.fault == "rate":
        schedule = HotSchedule(stages=(stage,), seed=unit.seed, at=options.at, hot=options.hot)
    rule = SpikeRule(
        window=options.window, least=options.window // 2, floor=options.floor, deviations=options.deviations
    )
    stabilise = Stabilise(
        answer=answer, rule=rule, rollbacks=options.rollbacks,
        go_on=True, look_every=LOOK_EVERY, look_tokens=options.look_tokens,
    )  # fmt: skip
    return replace(
        base, name=f"stabilisers-{unit.name}", schedule=schedule, tokens_per_step=options.tokens, stabilise=stabilise,
        seed=base.seed + unit.seed, model=base.model if clamp else base.model.changed(swiglu_limit=None),
    )  # fmt: skip


def feed_of(chosen: Recipe, unit: Unit, options: argparse.Namespace) -> Feed:
    """The batches of a unit; the fault `token` is one of them."""
    rows = [RowPlan(row_length=options.rows)] * options.steps
    files = options.pack, options.tokenizer / "tokenizer.json"

    def feed(step: int) -> Iterator[dict[str, np.ndarray]]:
        given = {"seed": chosen.seed, "workers": options.workers, "start": step}
        with Loader(*files, rows, chosen.tokens_per_step, **given) as loader:
            for at, batch in enumerate(loader, step):
                made = {name: batch[name] for name in ("tokens", "weight", "positions", "kind", "dilution")}
                if unit.fault == "token" and options.at <= at < options.at + SAME_STEPS:
                    made["tokens"] = np.full_like(made["tokens"], made["tokens"][0, 1])
                yield made

    return feed


def grow_expert(step: int, model: Transformer, options: argparse.Namespace) -> None:
    """The fault `expert`: the first expert of the middle one of the learned layers."""
    if step == options.at:
        layers = learned_layers(model)
        experts = model.layers[layers[len(layers) // 2]].ffn.experts
        with torch.no_grad():
            experts.w1[0].mul_(options.grown)
            experts.w3[0].mul_(options.grown)


def run(unit: Unit, options: argparse.Namespace, seconds: float | None) -> bool:
    """Run a unit, or go on with it; whether it is done."""
    chosen, small = with_vocabulary(recipe_of(unit, options), options.tokenizer)
    where = RunOptions(
        out=options.out / unit.name, max_seconds=seconds, save_seconds=1e9, device=options.device, log_every=1
    )
    hook = (lambda step, model: grow_expert(step, model, options)) if unit.fault == "expert" else None
    return train(chosen, feed_of(chosen, unit, options), where, engram_map=small, before_step=hook).finished


def read_log(out: Path, unit: Unit) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Every step's line, the last where it was done again; and the events."""
    lines = [json.loads(line) for line in (out / unit.name / "log.jsonl").read_text().splitlines()]
    steps = {line["step"]: line for line in lines if "event" not in line}
    return [steps[step] for step in sorted(steps)], [line for line in lines if "event" in line]


def measured(out: Path, unit: Unit, at: int) -> dict[str, Any]:
    """What a unit's log says without its twin."""
    steps, events = read_log(out, unit)
    before, after = [s for s in steps if s["step"] < at], [s for s in steps if s["step"] >= at]
    return asdict(unit) | {
        "spikes": sum(e["event"] == "spike" for e in events), "rollbacks": steps[-1]["rollbacks"],
        "skipped": steps[-1]["skipped"], "steps_to_recover": recovery([s["loss"] for s in steps], at),
        "worst_loss": max(s["loss"] for s in after), "max_load": max(s["max_load"] for s in after),
        "max_load_before": max(s["max_load"] for s in before),
        **{f"{name}_before": highest(before, name) for name in ("gate_clamped", "up_clamped", "churn")},
        **{name: highest(after, name) for name in ("gate_clamped", "up_clamped", "gate_size", "up_size", "churn")},
    }  # fmt: skip


def highest(steps: list[dict[str, Any]], name: str) -> float | None:
    """The highest of a number that some lines have for every layer."""
    return max((max(s[name]) for s in steps if name in s), default=None)


def recovery(losses: list[float], at: int) -> int | None:
    """Steps from `at` until the smoothed loss is for the first time as low as before again, and not above it later in
    the fault's wake: 0 if it never rose, None if it never fell."""
    mean, smooth = losses[0], []
    for loss in losses:
        mean = SMOOTH * mean + (1 - SMOOTH) * loss if np.isfinite(loss) else float("inf")
        smooth.append(mean)
    limit = smooth[at - 1] + NEAR
    above = [step for step, value in enumerate(smooth) if step >= at and not value <= limit]
    if not above:
        return 0
    back = [step for step in range(above[0], len(smooth)) if smooth[step] <= limit]
    return back[0] - at if back else None


def against_twin(out: Path, unit: Unit, at: int) -> dict[str, float]:
    """Excess loss summed over all steps from the fault on, and of the last steps alone, against the unit's twin."""
    own, twin = ([s["loss"] for s in read_log(out, one)[0]] for one in (unit, unit.twin))
    gaps = [a - b for a, b in zip(own, twin, strict=True)]
    return {"excess_area": sum(max(0.0, gap) for gap in gaps[at:]), "final_gap": statistics.mean(gaps[-LAST:])}


def summary(out: Path, at: int) -> list[dict[str, Any]]:
    """A row for each fault and arm: means over the seeds that are done with their twins."""
    done = done_units(out)
    rows: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for unit, values in done.items():
        if unit.fault == NO_FAULT or unit.twin in done:
            more = {} if unit.fault == NO_FAULT else against_twin(out, unit, at)
            rows.setdefault((unit.fault, unit.arm), []).append(values | more)
    return [
        {"fault": fault, "arm": arm, "seeds": len(found)}
        | {name: mean([one[name] for one in found]) for name in found[0] if name not in ("seed", "fault", "arm")}
        | {"never_recovered": sum(one["steps_to_recover"] is None for one in found)}
        for (fault, arm), found in sorted(rows.items())
    ]


def mean(values: list[float | None]) -> float | None:
    """The mean of what is there."""
    there = [value for value in values if value is not None]
    return statistics.mean(there) if there else None


def done_units(out: Path) -> dict[Unit, dict[str, Any]]:
    """What units.jsonl holds."""
    path = out / "units.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return {Unit(line["seed"], line["fault"], line["arm"]): line for line in lines}


def print_table(rows: list[dict[str, Any]]) -> None:
    """The summary's main columns."""
    columns = ("spikes", "rollbacks", "excess_area", "steps_to_recover", "final_gap", "gate_clamped", "up_clamped",
               "max_load", "churn")  # fmt: skip
    print(f"{'fault':8} {'arm':12} {'n':>2} " + " ".join(f"{name:>16}" for name in columns))
    for row in rows:
        numbers = ["-" if row.get(name) is None else f"{row[name]:.4g}" for name in columns]
        print(f"{row['fault']:8} {row['arm']:12} {row['seeds']:>2} " + " ".join(f"{text:>16}" for text in numbers))


def parsed(args: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="The stabilisers' ablation.")
    parser.add_argument("--pack", type=Path, required=True, help="folder of packed tokens")
    parser.add_argument("--tokenizer", type=Path, required=True, help="folder of the tokenizer that packed them")
    parser.add_argument("--out", type=Path, required=True, help="folder of results")
    parser.add_argument("--minutes", type=float, help="stop after this long; the same command goes on")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--recipe", default="octavo-xs", help="whose model and optimiser")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--faults", nargs="+", choices=FAULTS, default=list(FAULTS))
    for name, value in (
        ("seeds", 3), ("steps", 600), ("at", 300), ("rows", 2048), ("tokens", 32_768), ("picks", 64), ("warmup", 60),
        ("rollbacks", 1), ("window", 64), ("look_tokens", 4096), ("workers", 0),
    ):  # fmt: skip
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=value)
    for name, value in (("hot", 8.0), ("grown", 6.0), ("floor", SpikeRule.floor), ("deviations", SpikeRule.deviations)):
        parser.add_argument(f"--{name}", type=float, default=value)
    options = parser.parse_args(args)
    if not 0 < options.at < options.steps:
        parser.error(f"--at is {options.at}; it must be from 1 to below --steps {options.steps}")
    return options


def main(args: list[str] | None = None) -> None:
    """Run what is missing until the time is over, then compare."""
    options, started = parsed(args), time.monotonic()
    options.out.mkdir(parents=True, exist_ok=True)
    for unit in units_of(options):
        if unit in done_units(options.out):
            continue
        left = None if options.minutes is None else options.minutes * 60 - (time.monotonic() - started)
        if left is not None and left <= 0:
            print(f"out of time before {unit.name}; the same command goes on")
            break
        since = time.monotonic()
        if not run(unit, options, left):
            print(f"out of time in {unit.name}; the same command goes on")
            break
        line = measured(options.out, unit, options.at) | {"seconds": round(time.monotonic() - since, 1)}
        with (options.out / "units.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")
        shutil.rmtree(options.out / unit.name / "checkpoint")
        print(json.dumps(line), flush=True)
    rows = summary(options.out, options.at)
    (options.out / "summary.json").write_text(json.dumps(rows, indent=1) + "\n")
    print_table(rows)


if __name__ == "__main__":
    main()
