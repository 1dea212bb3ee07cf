"""Twins of `octavo-xs`, one with Engram and one with as many parameters in experts, from a pack to their comparison.

Each step is one command that a user could type; it is printed before it runs, and left out when what it makes is there
already, so that the same line goes on after any stop. With two GPUs the twins train side by side. Both meet the same
rows in the same order, so a twin that the clock stopped before the end of its schedule is not compared: the line goes
on with it first.

Covers: the order of the steps and what they are told. Does not cover: what is trained (`octavo.train.recipes`), the
pack and its tokenizer (steps of `runs.octavo_s`), questions and tables (`octavo.evals.facts_run`, `facts_compare`).

    python -m runs.engram_twins --pack PACK --tokenizer weights/octavo-s --work WORK --device cuda --gpus 2 --minutes 4
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from octavo.evals.engram import MEMORY
from octavo.evals.facts import choose, rows
from octavo.evals.facts_run import BOOKS
from octavo.train.recipes import recipe

TWINS = ("octavo-xs-engram", "octavo-xs-plain")
STOPPED = 3
"""Exit code where the clock stopped a training; the same line goes on."""


@dataclass(frozen=True)
class Step:
    """A command, the file that says that it is done, and how much of it is there: (what there is, what there must be).
    gpu: the only one that the command sees."""

    command: tuple[str, ...]
    made: Path
    count: Callable[[Path], tuple[int, int]]
    gpu: int | None = None

    @property
    def done(self) -> bool:
        """Whether there is nothing left to do."""
        found, needed = self.count(self.made)
        return found >= needed

    @property
    def surroundings(self) -> dict[str, str]:
        """Environment of the command."""
        return dict(os.environ) if self.gpu is None else os.environ | {"CUDA_VISIBLE_DEVICES": str(self.gpu)}


def steps_done(name: str, log: Path) -> tuple[int, int]:
    """Steps of a recipe that its log tells of, and all; weights must be beside it when it is at its end."""
    lines = log.read_text("utf-8").splitlines() if log.exists() else []
    told = max((line["step"] + 1 for line in map(json.loads, lines) if "loss" in line), default=0)
    needed = recipe(name).schedule.steps
    weights = log.parent / "weights" / "model.safetensors.index.json"
    return (told if weights.exists() else min(told, needed - 1)), needed


def answers(count: int, result: Path) -> tuple[int, int]:
    """Answers in a result of `octavo eval facts`, which an interrupt leaves in parts, and how many it should have."""
    if not result.exists():
        return 0, 1
    found = json.loads(result.read_text("utf-8"))
    arms = len(MEMORY) if found["about"]["engram"] else 1
    return len(found["outcomes"]), arms * len(BOOKS) * len(choose(rows(None), count))


def newest(results: Sequence[Path], made: Path) -> tuple[int, int]:
    """Whether a comparison is there that is not older than the results it compares."""
    if not made.exists():
        return 0, 1
    return int(all(made.stat().st_mtime_ns >= one.stat().st_mtime_ns for one in results if one.exists())), 1


def rounds(options: argparse.Namespace) -> list[list[Step]]:
    """All steps, in order; those of one list run side by side."""
    trained = [training(name, number, options) for number, name in enumerate(options.recipes)]
    found = [trained] if options.gpus > 1 else [[one] for one in trained]
    if options.count:
        found += [[asking(name, options)] for name in options.recipes]
        results = [str(options.work / name / "facts" / "facts.json") for name in options.recipes]
        compare = (sys.executable, "-m", "octavo.evals.facts_compare", *results, "--out", str(options.work))
        found.append([Step(compare, options.work / "twins.json", partial(newest, [Path(one) for one in results]))])
    return found


def training(name: str, number: int, options: argparse.Namespace) -> Step:
    """`octavo train` by a recipe, on the GPU of that number where there are several."""
    out = options.work / name
    command = (
        sys.executable, "-m", "octavo", "train", name, "--pack", str(options.pack), "--tokenizer",
        str(options.tokenizer), "--out", str(out), "--weights", str(out / "weights"), "--device", options.device,
        "--workers", str(options.workers), "--micro-batches", "1",
        *(() if options.minutes is None else ("--minutes", str(options.minutes))),
    )  # fmt: skip
    return Step(command, out / "log.jsonl", partial(steps_done, name), number if options.gpus > 1 else None)


def asking(name: str, options: argparse.Namespace) -> Step:
    """`octavo eval facts`; the memory is changed where there is one."""
    out = options.work / name
    command = (
        sys.executable, "-m", "octavo", "eval", "facts", "--model", str(out / "weights"), "--count", str(options.count),
        "--controls", "--out", str(out / "facts"),
    )  # fmt: skip
    return Step(command, out / "facts" / "facts.json", partial(answers, options.count))


def go(steps: Sequence[Step], *, dry_run: bool) -> None:
    """Run what is missing of steps side by side. A failure ends the run with its exit code once all have ended."""
    missing = []
    for step in steps:
        if step.done:
            print(f"there: {step.made}", flush=True)
            continue
        print(shlex.join(step.command), flush=True)
        missing.append(step)
    if dry_run:
        return
    running = [subprocess.Popen(step.command, env=step.surroundings) for step in missing]
    codes = [one.wait() for one in running]
    if any(codes):
        raise SystemExit(next(code for code in codes if code))
    for step in missing:
        if not step.done:
            found, needed = step.count(step.made)
            print(f"{step.made}: {found} of {needed}; the same line goes on", flush=True)
            raise SystemExit(STOPPED)


def main(arguments: list[str] | None = None) -> None:
    """Run what is missing; a step that fails ends the run with its exit code."""
    parser = argparse.ArgumentParser(description="Twins with and without Engram, from a pack to their comparison.")
    parser.add_argument("--pack", type=Path, required=True, help="folder of packed tokens that hold the facts")
    parser.add_argument("--tokenizer", type=Path, required=True, help="folder of the tokenizer that made them")
    parser.add_argument("--work", type=Path, required=True, help="folder for everything that is made")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda")
    parser.add_argument("--gpus", type=int, choices=(1, 2), default=1, help="2: the twins train side by side")
    parser.add_argument("--workers", type=int, default=14, help="processes that make batches, for each twin")
    parser.add_argument("--minutes", type=float, help="of training at most, each; left out: to the end")
    parser.add_argument("--count", type=int, default=40, help="facts a number of exposures; 0: do not ask")
    parser.add_argument("--recipes", nargs=2, default=TWINS, help="the twin with Engram, then the one without")
    parser.add_argument("--dry-run", action="store_true", help="print the commands that would run")
    options = parser.parse_args(arguments)
    for steps in rounds(options):
        go(steps, dry_run=options.dry_run)


if __name__ == "__main__":
    main()
