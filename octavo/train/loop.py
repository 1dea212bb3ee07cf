"""The training loop: batches in, steps, log lines and checkpoints out, until the schedule or the time ends.

Covers: resume; saving at the end and every few minutes; data-parallel ranks, of which the first logs and saves. Does
not cover: parameters that are spread over ranks.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from octavo.config.model import DraftKind
from octavo.config.official import read_config
from octavo.data.rows import KINDS
from octavo.model.checkpoint import load_weights
from octavo.model.init import init_weights
from octavo.model.transformer import Transformer
from octavo.train import checkpoint
from octavo.train.log import RunLog
from octavo.train.optim import Optimizer
from octavo.train.parallel import Ranks
from octavo.train.recipes import Recipe
from octavo.train.schedule import StepPlan
from octavo.train.step import Batch, StepReport, recompute_layers, train_step

_LOG_EVERY = 10

Feed = Callable[[int], Iterator[dict[str, np.ndarray]]]


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Where and how long: output folder, seconds (None: to the end of the schedule), seconds between checkpoints,
    device, micro-batches a step (more than 1 saves memory), a folder of weights to start from instead of random ones
    (the optimiser starts anew), and a folder that gets the weights in the release format when the run stops."""

    out: Path
    max_seconds: float | None = None
    save_seconds: float = 240.0
    device: str = "cpu"
    micro_batches: int = 1
    resume: bool = True
    start: Path | None = None
    weights: Path | None = None


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """How a run ended."""

    steps: int
    finished: bool
    model: Transformer
    last: dict[str, float]


def train(
    recipe: Recipe,
    feed: Feed,
    options: RunOptions,
    *,
    engram_map: np.ndarray | None = None,
    ranks: Ranks | None = None,
) -> RunResult:
    """Run `recipe` to its end or for `max_seconds`. `feed(step)` yields this rank's batches of steps step, step + 1,
    ...: arrays tokens [B, S], weight [B, S], positions [B, S], kind [B, S] if kinds are told apart, dilution [B] if
    rows are to count as parts of longer contexts. `engram_map`
    [V] is the tokenizer's compression for Engram.
    """
    ranks = ranks or Ranks()
    started = time.monotonic()
    device = torch.device(options.device)
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
    model = _build(recipe, device, engram_map, options.start)
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    optimizer = Optimizer(trained, recipe.model, recipe.optim)
    folder, step = options.out / "checkpoint", 0
    if options.resume and (folder.exists() or folder.with_name("checkpoint.old").exists()):
        step = checkpoint.load(folder, model, optimizer, recipe=recipe.name)
    log = RunLog(options.out / "log.jsonl", from_step=step) if ranks.first else None
    plain = {layer: layer.forward for layer in model.layers}
    last: dict[str, float] = {}
    saved, tokens, since = time.monotonic(), 0, time.monotonic()
    for batch in feed(step) if step < recipe.schedule.steps else ():
        plan = recipe.schedule.plan(step)
        _set_recompute(model, plain, plan, recipe)
        parts = _to_device(batch, device, options.micro_batches)
        report = train_step(model, optimizer, parts, plan, recipe.weights, ranks)
        step, tokens = step + 1, tokens + batch["tokens"].size * ranks.count
        done, look = step == recipe.schedule.steps, step % _LOG_EVERY == 0
        if look or done:
            last = _line(report, plan, tokens / max(time.monotonic() - since, 1e-9))
            if log is not None:
                print(log.write(step=step - 1, stage=plan.stage, **last), file=sys.stderr, flush=True)
            tokens, since = 0, time.monotonic()
        now = time.monotonic()
        out_of_time = options.max_seconds is not None and now - started > options.max_seconds
        if ranks.count > 1:  # all stop together, and agreeing at every step would make them wait for each other
            out_of_time = look and ranks.agreed(out_of_time, device)
        if ranks.first and (now - saved > options.save_seconds or out_of_time or done):
            checkpoint.save(folder, model, optimizer, step=step, recipe=recipe.name)
            saved = time.monotonic()
        if out_of_time or done:
            break
    for layer, forward in plain.items():
        layer.forward = forward
    return RunResult(steps=step, finished=step >= recipe.schedule.steps, model=model, last=last)


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
    return model.to(device)


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


def _to_device(batch: dict[str, np.ndarray], device: torch.device, parts: int) -> list[Batch]:
    rows = batch["tokens"].shape[0]
    parts = min(parts, rows)
    cuts = [rows * i // parts for i in range(parts + 1)]
    tensors = {k: torch.from_numpy(np.ascontiguousarray(v)) for k, v in batch.items() if k != "spans"}
    tokens, positions = tensors["tokens"].to(device, torch.int64), tensors["positions"].to(device, torch.int64)
    weight = tensors["weight"].to(device, torch.float32)
    kind = tensors["kind"].to(device) if "kind" in tensors else torch.zeros_like(tokens, dtype=torch.uint8)
    dilution = tensors["dilution"].to(device) if "dilution" in tensors else None
    return [
        Batch(
            tokens=tokens[a:b],
            weight=weight[a:b],
            positions=positions[a:b],
            kind=kind[a:b],
            dilution=None if dilution is None else dilution[a:b],
        )
        for a, b in itertools.pairwise(cuts)
    ]


def _line(report: StepReport, plan: StepPlan, rate: float) -> dict[str, float]:
    return {
        "loss": report.loss.item(), "text": report.text_loss.item(), "answer": report.answer_loss.item(),
        "accuracy": report.answer_accuracy.item(), "index": report.index_loss.item(), "balance": report.balance.item(),
        "grad_norm": report.grad_norm.item(), "max_load": report.max_load.item(), "skipped": report.skipped.item(),
        "rate": plan.rate, "row": plan.row_length, "topk": plan.topk or 0, "tokens_per_s": rate,
    } | _by_kind(report) | _of_predictor(report)


def _of_predictor(report: StepReport) -> dict[str, float]:
    """Loss of the token after next, and the share of answers' tokens that the predictor finds; nothing without one."""
    if report.mtp_loss is None or report.mtp_accuracy is None:
        return {}
    return {"mtp": report.mtp_loss.item(), "mtp_accuracy": report.mtp_accuracy.item()}


def _by_kind(report: StepReport) -> dict[str, float]:
    """Share of right answer tokens of every kind that was asked."""
    hits, asked = report.hits_by_kind.tolist(), report.asked_by_kind.tolist()
    return {name: hits[i] / asked[i] for i, name in enumerate(KINDS, 1) if asked[i]}
