"""Why a loss rose: the same tokens, before and after a fault, with one thing put back at a time.

Covers: at the fault's step and at some later ones, on text that no step trains on, the loss as it is; with the experts
that the weights from just before the fault chose for these tokens (what Anticipatory Routing would take); with the
routers from before the fault on the features of now (what `stale` takes); with the clamp; how many tokens changed their
set of experts, and how many by the router alone; the load; how far outputs of the experts' layers stand out. Does not
cover: what the run itself does about it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from octavo.cache.view import Routed
from octavo.data.loader import Loader
from octavo.model.block import Block
from octavo.model.moe import Load, MoE
from octavo.model.transformer import Transformer
from octavo.train.batches import to_device
from octavo.train.looks import USUAL_LIMIT, churn, observe
from octavo.train.routing import learned_layers
from octavo.train.schedule import StepPlan
from octavo.train.step import Batch, view_of
from runs.stabilisers.units import plan_of

AFTER = (0, 1, 2, 4, 8, 16, 32, 64, 128)  # steps from the fault
_UNSEEN = 1_000_003  # added to the seed: rows of no step

Routers = Mapping[int, tuple[Tensor, Tensor]]


def probe_batch(options: argparse.Namespace, seed: int, device: torch.device) -> Batch:
    """Rows of text, about `look_tokens` tokens, that no run with this seed trains on."""
    rows = max(1, options.look_tokens // options.rows)
    files = options.pack, options.tokenizer / "tokenizer.json"
    with Loader(*files, [plan_of(options)], rows * options.rows, seed=seed + _UNSEEN) as loader:
        made = next(iter(loader))
    return to_device({name: made[name] for name in ("tokens", "weight", "positions", "kind")}, device, 1)[0]


@dataclass
class Probe:
    """Measures `batch` at steps of a run and appends what it finds to `path`. Call it before every step; the fault, if
    it changes weights, is `fault`."""

    path: Path
    batch: Batch
    plan: StepPlan
    at: int
    _experts: dict[int, Tensor] = field(default_factory=dict)
    _routers: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)

    def before_fault(self, step: int, model: Transformer) -> None:
        """Remember what the weights of before the fault choose."""
        if step == self.at:
            layers = learned_layers(model)
            self._experts = _passed(model, self.batch, self.plan).experts
            gates = {i: cast(Block, model.layers[i]).ffn.gate for i in layers}
            self._routers = {i: (g.weight.detach().clone(), g.get_buffer("bias").clone()) for i, g in gates.items()}

    def __call__(self, step: int, model: Transformer) -> None:
        """Measure if it is time."""
        if step - self.at in AFTER and self._experts:
            found = {"step": step} | self.measured(model)
            with self.path.open("a") as file:
                file.write(json.dumps(_rounded(found)) + "\n")

    def measured(self, model: Transformer) -> dict[str, Any]:
        """All numbers of now: losses, and a list with a value for each layer (churn: each learned layer)."""
        batch, plan, layers = self.batch, self.plan, learned_layers(model)
        own = _passed(model, batch, plan, routers=self._routers)
        sets = [torch.stack([one[i] for i in layers]) for one in (self._experts, own.experts, own.by_old)]
        with _limited(model, USUAL_LIMIT):
            clamped = _passed(model, batch, plan).loss
        clamps, _ = observe(model, batch, plan)
        return {
            "loss": own.loss, "loss_clamped": clamped,
            "loss_old_experts": _passed(model, batch, plan, routing=self._experts).loss,
            "loss_old_routers": _passed(model, batch, plan, routing=self._routers).loss,
            "churn": churn(sets[0], sets[1]).tolist(), "router_churn": churn(sets[2], sets[1]).tolist(),
            "load": own.load, "peak": own.peak, "size": own.size, **clamps,
        }  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Passed:
    """One pass: mean loss; experts of learned layers, [T, A] each, and those that other routers choose for the same
    features; by layer the largest load over the mean one, RMS of the experts' layers' output, and its largest value
    over that."""

    loss: float
    experts: dict[int, Tensor]
    by_old: dict[int, Tensor]
    load: list[float]
    size: list[float]
    peak: list[float]


def _passed(
    model: Transformer, batch: Batch, plan: StepPlan, *, routing: Mapping[int, Routed] | None = None,
    routers: Routers | None = None,
) -> Passed:  # fmt: skip
    """The bodies are those of training, gradients on, and their graph is dropped."""
    blocks, by_old, sizes = cast(Sequence[Block], model.layers), {}, {}

    def given(ffn: MoE, inputs: tuple[Tensor, Tensor], number: int) -> None:
        with torch.no_grad():
            by_old[number] = ffn.gate(*inputs, (routers or {})[number]).experts

    def made(ffn: MoE, inputs: Any, output: tuple[Tensor, Load], number: int) -> None:
        out = output[0].detach().float()
        size = out.square().mean().sqrt()
        sizes[number] = torch.stack([size, out.abs().amax() / size.clamp_min(1e-20)])

    hooks = [one.ffn.register_forward_hook(partial(made, number=i)) for i, one in enumerate(blocks)]
    hooks += [blocks[i].ffn.register_forward_pre_hook(partial(given, number=i)) for i in routers or {}]
    try:
        out = model(batch.tokens.flatten(), view_of(batch, plan, routing=routing))
    finally:
        for one in hooks:
            one.remove()
    loads = [cast(Load, report.load) for report in out.reports]
    with torch.no_grad():
        logits = model.logits(out.streams).float().view(*batch.tokens.shape, -1)[:, :-1]
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch.tokens[:, 1:].flatten()).item()
    both = torch.stack([sizes[i] for i in range(len(blocks))]).T.tolist()
    return Passed(
        loss=loss, experts={i: loads[i].experts for i in learned_layers(model)}, by_old=by_old,
        load=[(one.counts.amax() / one.counts.mean().clamp_min(1)).item() for one in loads], size=both[0], peak=both[1],
    )  # fmt: skip


@contextmanager
def _limited(model: Transformer, limit: float) -> Iterator[None]:
    """The clamp at `limit` in all layers."""
    parts = [part for block in cast(Sequence[Block], model.layers) for part in (block.ffn, block.ffn.shared_experts)]
    before = [part.limit for part in parts]
    try:
        for part in parts:
            part.limit = limit
        yield
    finally:
        for part, limit_before in zip(parts, before, strict=True):
            part.limit = limit_before


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_rounded(one) for one in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value
