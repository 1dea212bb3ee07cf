"""Which tensor of a step was the first that is not finite.

Covers: weights, then the outputs of modules in the order in which they are computed, then gradients in the order in
which they are. The forward pass is done once more, so ask only after a step that failed. Does not cover: why.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from octavo.cache.view import Routed
from octavo.model.transformer import Transformer
from octavo.train.schedule import StepPlan
from octavo.train.step import Batch, view_of


def first_nonfinite(
    model: Transformer,
    batches: Sequence[Batch],
    plan: StepPlan,
    routing: Sequence[Mapping[int, Routed]] | None = None,
) -> str:
    """Names the first such tensor of a step whose gradients are still there, arguments as of `train_step`."""
    for name, p in model.named_parameters():
        if _bad(p):
            return f"weight {name}"
    for name, buffer in model.named_buffers():
        if _bad(buffer):
            return f"buffer {name}"
    for at, batch in enumerate(batches):
        found = _first_output(model, batch, plan, None if routing is None else routing[at])
        if found is not None:
            return f"output of {found}"
    bad = [name for name, p in model.named_parameters() if p.grad is not None and _bad(p.grad)]
    if not bad:
        return "the sum of the gradients' squares: each of them is finite"
    return f"gradient of {_nearest_the_loss(bad)} ({len(bad)} gradients in all)"


def _first_output(
    model: Transformer, batch: Batch, plan: StepPlan, routing: Mapping[int, Routed] | None
) -> str | None:
    """The module that first gives such a value; "logits" where all of them are finite, but those are not."""
    found: list[str] = []

    def hook(name: str, output: Any) -> None:
        if not found and any(_bad(t) for t in _tensors(output)):
            found.append(name)

    hooks = [
        module.register_forward_hook(lambda _module, _given, output, name=name: hook(name, output))
        for name, module in model.named_modules()
        if name
    ]
    try:
        out = model(batch.tokens.flatten(), view_of(batch, plan, routing=routing))
        if not found and any(_bad(model.logits(part)) for part in out.streams.split(1024)):
            found.append("logits")
    finally:
        for one in hooks:
            one.remove()
    return found[0] if found else None


def _nearest_the_loss(names: list[str]) -> str:
    """The head first, then the MTP block, the final norm and merge, layers from the last, and the embedding."""

    def order(name: str) -> tuple[int, int]:
        parts = name.split(".")
        if parts[0] == "layers":
            return 3, -int(parts[1])
        return {"head": 0, "mtp": 1, "embed": 4}.get(parts[0], 2), 0

    return min(names, key=order)


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for one in value:
            yield from _tensors(one)


def _bad(tensor: Tensor) -> bool:
    return tensor.is_floating_point() and not bool(torch.isfinite(tensor).all())
