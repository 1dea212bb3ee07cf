"""The stabilisers' ablation: three faults, six arms, some seeds, each against a twin without the fault.

Runs what is missing of all units (seed, fault, arm; `units` says what they are) until `--minutes` are over, alone or in
`--processes`, of which each takes the next unit that nobody runs. What a seed's runs have in common before the fault is
computed once. A unit that was cut off begins again from there. Each writes OUT/<unit>/log.jsonl and probe.jsonl and,
once done, one line to OUT/units.jsonl; OUT/summary.json and the tables compare units with their twins, as means over
seeds. Looks at clamp and churn are taken every twenty steps: let `--at` be a multiple of them. A unit that raised is
left out; `--again` tries it once more.

    python -m runs.stabilisers --pack PACK --tokenizer weights/octavo-s --out OUT --device cuda --minutes 5 \
        --processes 22 --gpus 2 --steps 440 --tokens 16384 --grown 16 --window 32 --deviations 5
    python -m runs.stabilisers --pack PACK --tokenizer weights/octavo-xs --out OUT --recipe tiny --steps 80 --at 40 \
        --rows 256 --tokens 1024 --seeds 1 --window 24 --hot 60 --deviations 2
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from octavo.bench.surroundings import gpu, surroundings
from octavo.data.pack import PackedText
from octavo.train.spikes import SpikeRule
from runs.stabilisers.launch import launch
from runs.stabilisers.measures import COLUMNS, PROBED, compared, probes, summary, table
from runs.stabilisers.units import ARMS, FAULTS, branch_step
from runs.stabilisers.work import work

_NOT_TOLD = ("pack", "tokenizer", "out", "minutes", "until", "processes", "gpus", "join", "summary", "again", "workers")


def parsed(args: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m runs.stabilisers", description="The stabilisers' ablation.")
    parser.add_argument("--pack", type=Path, required=True, help="folder of packed tokens")
    parser.add_argument("--tokenizer", type=Path, required=True, help="folder of the tokenizer that packed them")
    parser.add_argument("--out", type=Path, required=True, help="folder of results")
    parser.add_argument("--minutes", type=float, help="stop after this long; the same command goes on")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--processes", type=int, default=1, help="run units in so many processes at once")
    parser.add_argument("--gpus", type=int, default=0, help="give the processes so many GPUs by turn")
    parser.add_argument("--summary", action="store_true", help="only compare what is done")
    parser.add_argument("--again", action="store_true", help="try units again that raised")
    parser.add_argument("--join", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--until", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--recipe", default="octavo-xs", help="whose model and optimiser, with the tokenizer's ids")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--faults", nargs="+", choices=FAULTS, default=list(FAULTS))
    for name, value in (
        ("seeds", 3), ("steps", 600), ("at", 300), ("rows", 2048), ("tokens", 32_768), ("picks", 64), ("warmup", 60),
        ("rollbacks", 1), ("hold", 500), ("same", 2), ("window", 64), ("look_tokens", 4096), ("workers", 0),
    ):  # fmt: skip
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=value)
    for name, value in (
        ("hot", 8.0), ("grown", 6.0), ("plain", 1.0), ("floor", SpikeRule.floor), ("deviations", SpikeRule.deviations)
    ):  # fmt: skip
        parser.add_argument(f"--{name}", type=float, default=value)
    options = parser.parse_args(args)
    if not 0 < options.at < options.steps:
        parser.error(f"--at is {options.at}; it must be from 1 to below --steps {options.steps}")
    if options.processes < 1:
        parser.error(f"--processes is {options.processes}; it must be at least 1")
    if options.warmup > branch_step(options) > 0:
        parser.error(f"--warmup is {options.warmup}; it must be over by step {branch_step(options)}, where runs part")
    return options


def about(options: argparse.Namespace) -> dict[str, Any]:
    """Where and with what the runs are made: on GPUs `device` is "cuda", and `cpu` is the processor beside them."""
    found = surroundings(("torch", "triton", "numpy"))
    if options.device == "cuda":
        found |= {"cpu": found["device"], "device": "cuda", "gpu": gpu(), "gpus": max(1, options.gpus)}
    told = {name: value for name, value in vars(options).items() if name not in _NOT_TOLD}
    return found | {"processes": options.processes, "options": told}


def main(args: list[str] | None = None) -> int:
    """Run what is missing until the time is over, then compare; 1 if anything went wrong."""
    options = parsed(args)
    until = options.until
    if until is None and options.minutes is not None:
        until = time.time() + options.minutes * 60
    options.out.mkdir(parents=True, exist_ok=True)
    if options.join:
        return 0 if work(options, until) else 1
    well = True
    if not options.summary:
        if options.again:
            for path in options.out.glob("*/failed.txt"):
                path.unlink()
        PackedText(options.pack)  # unpacked once, before several processes open it
        (options.out / "about.json").write_text(json.dumps(about(options), indent=1) + "\n")
        if options.processes == 1:
            well = work(options, until)
        else:
            rest = sys.argv[1:] if args is None else args
            given = {"count": options.processes, "gpus": options.gpus, "out": options.out, "until": until}
            faults = launch(rest, **given)
            for why in faults:
                print(why, file=sys.stderr)
            well = not faults
    units = compared(options.out, options.at)
    rows = summary(units)
    (options.out / "summary.json").write_text(json.dumps(rows, indent=1) + "\n")
    print(table(rows, ("fault", "arm", "seeds"), COLUMNS))
    print(table(probes(units, "none"), ("fault", "after", "seeds"), PROBED))
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
