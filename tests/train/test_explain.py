"""Which tensor is named as the first that is not finite."""

from __future__ import annotations

from typing import cast

import torch

from octavo.model.block import Block
from octavo.model.transformer import Transformer
from octavo.train.explain import first_nonfinite
from octavo.train.step import LossWeights, train_step
from tests.support.training import fresh, plan_of, random_batch

BATCH = random_batch(2)


def failed(model: Transformer) -> str:
    return first_nonfinite(model, [BATCH], plan_of())


@torch.no_grad()
def test_a_weight_comes_before_what_it_spoils() -> None:
    model, _ = fresh()
    cast(Block, model.layers[1]).ffn.experts.w3[2, 0, 0] = torch.nan
    assert failed(model) == "weight layers.1.ffn.experts.w3"
    other, _ = fresh()
    cast(Block, other.layers[1]).ffn.gate.get_buffer("bias")[1] = torch.inf
    assert failed(other) in ("buffer layers.0.ffn.gate.bias", "buffer layers.1.ffn.gate.bias")


@torch.no_grad()
def test_the_first_module_whose_output_overflows() -> None:
    model, _ = fresh()
    attn = cast(Block, model.layers[1]).attn
    attn.wq_a.weight *= 3e38
    assert failed(model).startswith("output of layers.1.attn")


@torch.no_grad()
def test_logits_are_looked_at_too() -> None:
    model, _ = fresh()
    model.head.weight[:] = 3e38
    assert failed(model) in ("output of logits", "output of head")


def test_gradients_come_last_and_the_one_nearest_the_loss_is_named() -> None:
    model, optimizer = fresh()
    train_step(model, optimizer, [BATCH], plan_of(rate=0.0), LossWeights())
    assert failed(model).startswith("the sum of the gradients' squares")
    for name, p in model.named_parameters():
        if name.startswith(("layers.0.", "embed", "layers.1.ffn.gate")):
            p.grad = torch.full_like(p, torch.nan)
    assert failed(model).startswith("gradient of layers.1.ffn.gate.weight (")
