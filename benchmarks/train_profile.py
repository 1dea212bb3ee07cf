"""What a training step spends a device's time on, kernel by kernel.

Covers: the step of `benchmarks.train_step` (made-up tokens, the plan of the recipe's last stage, all operations in
Triton on a GPU), timed alone and then under the profiler: every kernel's time, calls and share, the time in which the
device did anything at all, and the gaps between, in which it waited for the host. On a CPU operators stand in for
kernels, those that call others counted with them. Does not cover: several devices, how near a kernel is to its bound
(`octavo bench kernels`).

    python -m benchmarks.train_profile [--recipe octavo-s] [--rows 4096 16384] [--tokens 131072] [--top 40]
        [--device cuda] [--out docs/results/train_profile.json]
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from benchmarks.train_step import Step
from octavo.bench.record import write_json
from octavo.bench.surroundings import RESULTS, surroundings
from octavo.kernels.dispatch import TRITON
from octavo.train.recipes import recipe
from octavo.train.speed import least_seconds, product_rate

WARM_UP, TIMED, PROFILED = 2, 3, 2
DEVICE_KINDS, HOST_KINDS = frozenset({"kernel", "gpu_memcpy", "gpu_memset"}), frozenset({"cpu_op"})
Span = tuple[float, float]


def busy(spans: Iterable[Span]) -> float:
    """Length of the union of (begin, end)."""
    covered, reached = 0.0, float("-inf")
    for begin, end in sorted(spans):
        covered += max(0.0, end - max(begin, reached))
        reached = max(reached, end)
    return covered


def read_trace(path: Path, kinds: frozenset[str]) -> dict[str, list[Span]]:
    """Begin and end in seconds of every event of these kinds in a Chrome trace, by name."""
    found: dict[str, list[Span]] = defaultdict(list)
    for event in json.loads(path.read_text(encoding="utf-8"))["traceEvents"]:
        if event.get("cat") in kinds:
            found[event["name"]].append((event["ts"] / 1e6, (event["ts"] + event["dur"]) / 1e6))
    return found


def profile(step: Step, operations: frozenset[str], top: int) -> dict[str, Any]:
    """Seconds of a step of a warm model: without the profiler, and by kernel under it, the `top` longest."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as watched

    gpu = step.device.type == "cuda"
    first = [step.take(operations) for _ in range(WARM_UP)]
    print(f"first steps: {', '.join(f'{seconds:.1f}' for seconds in first)} s", flush=True)
    taken = statistics.median(step.take(operations) for _ in range(TIMED))
    with watched(activities=[ProfilerActivity.CUDA if gpu else ProfilerActivity.CPU]) as seen:
        under = [step.take(operations) for _ in range(PROFILED)]
    with TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        seen.export_chrome_trace(str(path))  # its events as Python objects take minutes
        spans = read_trace(path, DEVICE_KINDS if gpu else HOST_KINDS)
    kernels: list[dict[str, Any]] = [
        {"name": name, "calls": len(own) / PROFILED, "seconds": sum(end - begin for begin, end in own) / PROFILED}
        for name, own in spans.items()
    ]
    whole = sum(one["seconds"] for one in kernels)
    kernels.sort(key=lambda one: -one["seconds"])
    for one in kernels:
        one["share"] = one["seconds"] / whole
    return {
        "seconds": taken,
        "profiled_seconds": statistics.mean(under),
        "busy_seconds": busy(span for own in spans.values() for span in own) / PROFILED,
        "kernel_seconds": whole,
        "launches": sum(one["calls"] for one in kernels),
        "kernels": kernels[:top],
        "peak_memory_bytes": torch.cuda.max_memory_allocated() if gpu else None,
    }


def print_run(run: dict[str, Any], shown: int) -> None:
    """What a step takes, and its longest kernels."""
    print(
        f"{run['recipe']}, rows of {run['row_length']:,}, {run['tokens']:,} tokens: {1e3 * run['seconds']:.1f} ms, "
        f"{run['share_of_bound']:.3f} of the bound; device busy {1e3 * run['busy_seconds']:.1f} ms with "
        f"{run['launches']:,.0f} launches",
        flush=True,
    )
    for one in run["kernels"][:shown]:
        print(
            f"  {one['share']:6.1%} {1e3 * one['seconds']:8.2f} ms {one['calls']:7.0f} x {one['name'][:70]}", flush=True
        )


def main() -> None:
    """Parse, run, print, write after every row length."""
    parser = argparse.ArgumentParser(description="A training step by kernel.")
    parser.add_argument("--recipe", default="octavo-s")
    parser.add_argument("--rows", type=int, nargs="+", default=[4096, 16384])
    parser.add_argument("--tokens", type=int, default=131_072)
    parser.add_argument("--top", type=int, default=40)
    parser.add_argument("--shown", type=int, default=40, help="kernels that are printed")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, default=RESULTS / "train_profile.json")
    arguments = parser.parse_args()
    device, chosen = torch.device(arguments.device), recipe(arguments.recipe)
    where = surroundings(("torch", "triton"))
    if device.type == "cuda":
        where["device"] = torch.cuda.get_device_name()
    runs: list[dict[str, Any]] = []
    for rows in arguments.rows:
        step = Step(chosen, rows, arguments.tokens, device)
        found = profile(step, TRITON if device.type == "cuda" else frozenset(), arguments.top)
        least = least_seconds(chosen.model, arguments.tokens, product_rate(device))
        about = {"recipe": chosen.name, "row_length": rows, "tokens": arguments.tokens, "bound_seconds": least}
        runs.append(about | {"share_of_bound": least / found["seconds"]} | found)
        print_run(runs[-1], arguments.shown)
        write_json(arguments.out, where | {"runs": runs})
        del step


if __name__ == "__main__":
    main()
