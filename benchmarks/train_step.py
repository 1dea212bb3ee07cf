"""One training step of a recipe on one device, against the device's own rate of matrix products in the same run.

Covers: forward, all losses, backward and update on made-up tokens, the plan of one step of the recipe's last stage at
each row length; the compiling first steps are left out. The bound counts 6 operations a token and active parameter, as
if nothing but the weights' products had to be done: attention, index, hyper-connections, losses and the update are all
overhead to it. Does not cover: making the data, several devices (`octavo train` logs those).

    python -m benchmarks.train_step [--recipe octavo-xs] [--rows 4096] [--tokens 131072] [--steps 12] [--device cuda]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from octavo.bench.record import write_json
from octavo.bench.surroundings import RESULTS, surroundings
from octavo.config.counts import count
from octavo.model.init import init_weights
from octavo.model.transformer import Transformer
from octavo.train.optim import Optimizer
from octavo.train.recipes import recipe
from octavo.train.step import Batch, recompute_layers, train_step

WARM_UP = 3
SQUARE = {"cuda": 8192, "cpu": 1024}  # side of the matrices whose product gives the device's rate


def seconds(action: Callable[[], object], device: torch.device, repeats: int) -> list[float]:
    """Wall-clock time of every repeat, the device's queue emptied before and after."""
    taken = []
    for _ in range(repeats):
        if device.type == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        action()
        if device.type == "cuda":
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - start)
    return taken


def product_rate(device: torch.device) -> float:
    """Operations a second of one large product: BF16 on a GPU, FP32 on a CPU."""
    side = SQUARE[device.type]
    a = torch.randn(side, side, device=device, dtype=torch.bfloat16 if device.type == "cuda" else torch.float32)
    out = torch.empty_like(a)
    seconds(lambda: torch.mm(a, a, out=out), device, 3)
    return 2 * side**3 / statistics.median(seconds(lambda: torch.mm(a, a, out=out), device, 9))


def measure(name: str, rows: int, tokens: int, steps: int, device: torch.device) -> dict[str, Any]:
    """Median seconds of a step with rows of `rows` tokens, and the share of the bound."""
    chosen = recipe(name)
    config = chosen.model
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
    model = Transformer(config, compute_dtype=torch.bfloat16 if device.type == "cuda" else None)
    init_weights(model, seed=0)
    model.to(device)
    if rows >= chosen.recompute_from:
        recompute_layers(model)
    optimizer = Optimizer(dict(model.named_parameters()), config, chosen.optim)
    plan = replace(chosen.schedule.plan(chosen.schedule.steps - 1), row_length=rows)
    draw = torch.Generator().manual_seed(0)
    shape = tokens // rows, rows
    batch = Batch(
        tokens=torch.randint(3, config.vocab_size, shape, generator=draw).to(device),
        weight=torch.ones(shape, device=device),
        positions=torch.arange(rows, device=device).expand(shape),
    )
    taken = seconds(lambda: train_step(model, optimizer, [batch], plan, chosen.weights), device, WARM_UP + steps)
    median, rate = statistics.median(taken[WARM_UP:]), product_rate(device)
    least = 6 * count(config).active * tokens / rate
    return {
        "recipe": name,
        "row_length": rows,
        "tokens": tokens,
        "picks": plan.topk,
        "active_parameters": count(config).active,
        "first_steps_seconds": taken[:WARM_UP],
        "all_seconds": taken[WARM_UP:],
        "seconds": median,
        "tokens_per_second": tokens / median,
        "product_operations_per_second": rate,
        "bound_seconds": least,
        "share_of_bound": least / median,
        "peak_memory_bytes": torch.cuda.max_memory_allocated() if device.type == "cuda" else None,
    }


def main() -> None:
    """Parse, run, print, write `docs/results/train_step.json`."""
    parser = argparse.ArgumentParser(description="Time of a training step, and its share of the product bound.")
    parser.add_argument("--recipe", default="octavo-xs")
    parser.add_argument("--rows", type=int, nargs="+", default=[4096])
    parser.add_argument("--tokens", type=int, default=131_072)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, default=RESULTS / "train_step.json")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    where = surroundings(("torch", "numpy"))
    if device.type == "cuda":
        where["device"] = torch.cuda.get_device_name()
    runs = []
    for rows in arguments.rows:
        runs.append(measure(arguments.recipe, rows, arguments.tokens, arguments.steps, device))
        r = runs[-1]
        print(
            f"rows of {rows:,}: {r['tokens']:,} tokens in {r['seconds'] * 1e3:.1f} ms, {r['tokens_per_second']:,.0f}/s,"
            f" {r['share_of_bound']:.3f} of the bound",
            flush=True,
        )
    write_json(arguments.out, where | {"runs": runs})


if __name__ == "__main__":
    main()
