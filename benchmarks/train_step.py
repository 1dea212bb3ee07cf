"""One training step on one device with different bodies of its operations, against the device's own rate of products.

Covers: forward, all losses, backward and update on made-up tokens, the plan of one step of the recipe's last stage at
each row length. On a GPU the step runs with compiled functions (before) and with Triton's kernels (after), on request
also with one operation at a time in Triton (`--ops`); the variants take turns, and the compiling first steps are left
out. Each variant's gradient from the same weights is compared with the first one's. The bound counts 6 operations a
token and active parameter, as if nothing but the weights' products had to be done: attention, index, hyper-connections,
losses and the update are all overhead to it, and the share of it is what others call MFU. A variant that fails is
recorded with its error. Does not cover: making the data, several devices (`octavo train` logs those).

    python -m benchmarks.train_step [--recipe octavo-xs] [--preset s] [--rows 4096] [--tokens 131072] [--steps 12]
        [--ops hyper rope .. | all] [--device cuda]
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from octavo.bench.record import write_json
from octavo.bench.surroundings import RESULTS, surroundings
from octavo.config.counts import count
from octavo.config.presets import PRESETS, preset
from octavo.kernels.dispatch import TRITON, train_in_triton
from octavo.model.init import init_weights
from octavo.model.transformer import Transformer
from octavo.train.optim import Optimizer
from octavo.train.recipes import Recipe, recipe
from octavo.train.schedule import StepPlan
from octavo.train.speed import least_seconds, product_rate, seconds
from octavo.train.step import Batch, recompute_layers, train_step

WARM_UP = 3
BEFORE, AFTER = "compiled", "triton"
Variants = dict[str, frozenset[str]]  # name -> operations in Triton


class Step:
    """A model, its optimiser and one batch, to take steps with."""

    def __init__(self, chosen: Recipe, rows: int, tokens: int, device: torch.device) -> None:
        self.chosen, self.device, config = chosen, device, chosen.model
        if device.type == "cuda":
            torch.set_float32_matmul_precision("high")
        self.model = Transformer(config, compute_dtype=torch.bfloat16 if device.type == "cuda" else None)
        init_weights(self.model, seed=0)
        self.model.to(device)
        if rows >= chosen.recompute_from:
            recompute_layers(self.model)
        self.optimizer = Optimizer(dict(self.model.named_parameters()), config, chosen.optim)
        self.plan: StepPlan = replace(chosen.schedule.plan(chosen.schedule.steps - 1), row_length=rows)
        draw = torch.Generator().manual_seed(0)
        shape = tokens // rows, rows
        self.batch = Batch(
            tokens=torch.randint(3, config.vocab_size, shape, generator=draw).to(device),
            weight=torch.ones(shape, device=device),
            positions=torch.arange(rows, device=device).expand(shape),
        )

    def take(self, operations: frozenset[str]) -> float:
        """The seconds of one step with these operations in Triton."""
        with train_in_triton(operations):
            return seconds(
                lambda: train_step(self.model, self.optimizer, [self.batch], self.plan, self.chosen.weights),
                self.device, 1,
            )[0]  # fmt: skip

    def gradient(self, operations: frozenset[str]) -> tuple[float, dict[str, Tensor]]:
        """Loss and gradients by name at the model's weights, which stay as they are."""
        weights = [p.detach().clone() for p in self.model.parameters()]
        buffers = [b.clone() for b in self.model.buffers()]
        still = replace(self.plan, rate=0.0)
        with train_in_triton(operations):
            report = train_step(self.model, self.optimizer, [self.batch], still, self.chosen.weights)
        made = {name: p.grad.clone() for name, p in self.model.named_parameters() if p.grad is not None}
        with torch.no_grad():
            for p, before in zip(self.model.parameters(), weights, strict=True):
                p.copy_(before)
            for b, before in zip(self.model.buffers(), buffers, strict=True):
                b.copy_(before)
        return report.loss.item(), made


def distance(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    """Norm of the difference of two gradients over the norm of the second."""
    off, size = (
        torch.stack([g.float().square().sum() for g in made]).sum().sqrt()
        for made in ([a[name] - b[name] for name in b], b.values())
    )
    return float(off / size)


def measure(
    chosen: Recipe, rows: int, tokens: int, steps: int, device: torch.device, variants: Variants
) -> dict[str, Any]:
    """Seconds of a step with rows of `rows` tokens by variant, and their shares of the bound."""
    step = Step(chosen, rows, tokens, device)
    found: dict[str, dict[str, Any]] = {name: {"operations": sorted(ops)} for name, ops in variants.items()}
    for name, ops in variants.items():
        attempt(found[name], lambda own=found[name], ops=ops: _warm(step, ops, own))
    reference: dict[str, Tensor] = {}
    for name, ops in variants.items():
        attempt(found[name], lambda own=found[name], ops=ops: _compare(step, ops, own, reference))
    for turn in range(steps):
        order = list(variants)
        for name in order[turn % len(order) :] + order[: turn % len(order)]:
            attempt(found[name], lambda own=found[name], ops=variants[name]: _time(step, ops, own))
    rate = product_rate(device)
    least = least_seconds(chosen.model, tokens, rate)
    for own in found.values():
        if "error" not in own:
            own["seconds"] = statistics.median(own["all_seconds"])
            own["tokens_per_second"] = tokens / own["seconds"]
            own["share_of_bound"] = least / own["seconds"]
    return {
        "recipe": chosen.name,
        "row_length": rows,
        "tokens": tokens,
        "picks": step.plan.topk,
        "active_parameters": count(chosen.model).active,
        "product_operations_per_second": rate,
        "bound_seconds": least,
        "variants": found,
    }


def attempt(own: dict[str, Any], action: Callable[[], object]) -> None:
    """Run `action` unless this variant failed before; note a failure in its record, and say it."""
    if "error" in own:
        return
    try:
        action()
    except Exception as error:
        own["error"] = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
        print(f"failed with {', '.join(own['operations']) or 'no operation'} in Triton: {own['error']}", flush=True)


def _warm(step: Step, ops: frozenset[str], own: dict[str, Any]) -> None:
    own["first_steps_seconds"] = taken = [step.take(ops) for _ in range(WARM_UP)]
    print(f"{', '.join(own['operations']) or 'nothing'} in Triton: first step {taken[0]:.1f} s", flush=True)


def _compare(step: Step, ops: frozenset[str], own: dict[str, Any], reference: dict[str, Tensor]) -> None:
    """Loss, and the gradient's distance from that of the first variant that ran, which goes into `reference`."""
    own["loss"], made = step.gradient(ops)
    if not reference:
        reference.update(made)
    own["gradient_distance"] = distance(made, reference)


def _time(step: Step, ops: frozenset[str], own: dict[str, Any]) -> None:
    if step.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    own.setdefault("all_seconds", []).append(step.take(ops))
    own["peak_memory_bytes"] = torch.cuda.max_memory_allocated() if step.device.type == "cuda" else None


def variants_of(device: torch.device, ops: list[str]) -> Variants:
    """What is compared: on a GPU compiled functions and Triton, and each of `ops` alone; one variant on a CPU."""
    if device.type != "cuda":
        return {BEFORE: frozenset()}
    alone = sorted(TRITON) if "all" in ops else ops
    return {BEFORE: frozenset(), AFTER: TRITON} | {f"{op} alone": frozenset({op}) for op in alone}


def print_run(run: dict[str, Any]) -> None:
    """One line a variant."""
    found = run["variants"]
    base = found[BEFORE].get("seconds")
    for name, own in found.items():
        if "error" in own:
            continue
        faster = f", {base / own['seconds']:.3f}x" if base and name != BEFORE else ""
        print(
            f"{run['recipe']}, rows of {run['row_length']:,}, {name}: {run['tokens']:,} tokens in "
            f"{own['seconds'] * 1e3:.1f} ms, {own['tokens_per_second']:,.0f}/s, "
            f"{own['share_of_bound']:.3f} of the bound{faster}; loss {own['loss']:.5f}, "
            f"gradient off by {own['gradient_distance']:.1e}, {(own['peak_memory_bytes'] or 0) / 2**30:.1f} GiB",
            flush=True,
        )


def main() -> None:
    """Parse, run, print, write `docs/results/train_step.json`."""
    parser = argparse.ArgumentParser(description="Time of a training step, and its share of the product bound.")
    parser.add_argument("--recipe", default="octavo-xs")
    parser.add_argument("--preset", nargs="+", choices=sorted(PRESETS), help="models instead of the recipe's own")
    parser.add_argument("--rows", type=int, nargs="+", default=[4096])
    parser.add_argument("--tokens", type=int, default=131_072)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--ops", nargs="+", choices=["all", *sorted(TRITON)], default=[], help="each alone in Triton")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, default=RESULTS / "train_step.json")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    where = surroundings(("torch", "numpy", "triton"))
    if device.type == "cuda":
        where["device"] = torch.cuda.get_device_name()
    base = recipe(arguments.recipe)
    chosen = [base]
    if arguments.preset:
        chosen = [replace(base, name=f"{base.name} with {name}", model=preset(name)) for name in arguments.preset]
    runs, variants = [], variants_of(device, arguments.ops)
    for own in chosen:
        for rows in arguments.rows:
            runs.append(measure(own, rows, arguments.tokens, arguments.steps, device, variants))
            print_run(runs[-1])
            write_json(arguments.out, where | {"runs": runs})


if __name__ == "__main__":
    main()
