"""A model with its n-gram memory changed, for as long as a measurement takes.

Covers: Engram off (its output is zero), and its table rows exchanged by a fixed permutation, which leaves every row's
norm and the pathway as they are and takes away what the rows say. Does not cover: what is measured (`facts_run`),
training without Engram.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from octavo.config.errors import UsageError
from octavo.engine.llm import LLM
from octavo.model.engram import Engram

MEMORY = ("none", "Engram off", "rows permuted")
"""What is changed; "none" is the model as it is."""
_SEED = 0


def has_memory(llm: LLM) -> bool:
    """Whether the model has Engram tables."""
    return llm.config.engram is not None


@contextmanager
def changed(llm: LLM, change: str) -> Iterator[LLM]:
    """`llm` with its memory changed as one of `MEMORY` says, put back when the block ends.

    `llm` is not to be used meanwhile: weights are exchanged where they lie. Raises UsageError for an unknown change, a
    model without Engram, and tables or maps that are not plain numbers in memory.
    """
    if change not in MEMORY:
        raise UsageError(f"unknown change {change!r} of the memory: it is one of {', '.join(MEMORY)}")
    if change == "none":
        yield llm
        return
    modules = [module for module in llm.model.modules() if isinstance(module, Engram)]
    if not modules:
        raise UsageError(f"{llm.name} has no Engram that could be changed")
    weights = [_plain(llm, module.wkv.weight if change == "Engram off" else module.table.weight) for module in modules]
    before = [weight.detach().clone() for weight in weights]
    try:
        with torch.no_grad():
            for module, weight, old in zip(modules, weights, before, strict=True):
                if change == "Engram off":
                    weight[module.streams * module.width :] = 0  # the value: gates times zero are zero
                else:
                    weight.copy_(old[permutation(module).to(old.device)])
        yield LLM(llm.model, llm.tokenizer, llm.pool, chunk=llm.runner.chunk, name=llm.name, quotes=llm.quotes)
    finally:
        with torch.no_grad():
            for weight, old in zip(weights, before, strict=True):
                weight.copy_(old)


def permutation(module: Engram) -> Tensor:
    """Where each row of the table is taken from, int64 [rows]: a row of the same hash head, the same at every call."""
    draw = torch.Generator().manual_seed(_SEED)
    plan = module.plan
    heads = zip(plan.offsets, plan.moduli, strict=True)
    return torch.cat([int(first) + torch.randperm(int(rows), generator=draw) for first, rows in heads])


def _plain(llm: LLM, weight: object) -> Tensor:
    if not isinstance(weight, Tensor) or not weight.is_floating_point():
        raise UsageError(f"the Engram of {llm.name} is not held as plain numbers; load it without offloading or int8")
    return weight
