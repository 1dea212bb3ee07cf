"""Training with rounded weights: the values are those that the export gives back, the full ones return, steps go on."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from octavo.config.model import ModelConfig
from octavo.model.checkpoint import WritePlan, load_weights, save_checkpoint
from octavo.model.transformer import Transformer
from octavo.train.loop import RunOptions, train
from octavo.train.rounding import RoundedWeights
from octavo.train.step import LossWeights, train_step
from tests.support.checkpoints import stored_config
from tests.support.tiny import tiny_engram
from tests.support.training import feed_of, fresh, plan_of, random_batch, small_recipe

SHIPS = WritePlan(experts_fp4=True, embeddings=True, engram_tables=True)


def model_of(config: ModelConfig) -> Transformer:
    torch.manual_seed(3)
    model = Transformer(config)
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    return model


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


@pytest.mark.parametrize("plan", [SHIPS, WritePlan(), WritePlan(dense=False)], ids=["fp4", "fp8", "none"])
def test_lent_values_are_those_that_ship(tmp_path: Path, plan: WritePlan) -> None:
    config = stored_config(engram=tiny_engram(layers=(0, 2)), quantization=None, expert_dtype=None)
    model = model_of(config)
    save_checkpoint(model, config, tmp_path / "shipped", plan)
    shipped = Transformer(config)
    load_weights(shipped, tmp_path / "shipped", torch.float32)
    before = weights(model)
    with RoundedWeights(model, config, plan).lent():
        lent = weights(model)
    after = weights(model)
    assert all(torch.equal(before[name], after[name]) for name in before)
    changed = Counter(not torch.equal(lent[name], before[name]) for name in before)
    assert (changed[True] > 10) == plan.dense
    for name, value in shipped.named_parameters():
        if not torch.equal(lent[name], value):  # what stays BF16 in the files is not rounded in training
            assert torch.equal(lent[name], before[name]), name
            assert torch.equal(value, before[name].bfloat16().float()), name


def test_full_weights_return_behind_an_error() -> None:
    model = model_of(stored_config(quantization=None, expert_dtype=None))
    before = weights(model)
    with pytest.raises(ZeroDivisionError), RoundedWeights(model, model.config, SHIPS).lent():
        raise ZeroDivisionError
    assert all(torch.equal(value, before[name]) for name, value in weights(model).items())


def test_frozen_parameters_are_left_alone() -> None:
    model = model_of(stored_config(quantization=None, expert_dtype=None))
    model.head.weight.requires_grad_(False)
    before = weights(model)
    with RoundedWeights(model, model.config, SHIPS).lent():
        lent = weights(model)
    assert torch.equal(lent["head.weight"], before["head.weight"])
    assert not torch.equal(lent["embed.weight"], before["embed.weight"])


def test_a_step_takes_the_gradient_at_the_rounded_weights_and_moves_the_full_ones() -> None:
    plain, optimizer = fresh()
    rounded, other = fresh()
    for model, each in ((plain, optimizer), (rounded, other)):
        train_step(model, each, [random_batch(seed=1)], plan_of(), LossWeights())
    start = weights(plain)
    lent = RoundedWeights(rounded, rounded.config, WritePlan())
    with lent.lent():
        at = weights(rounded)
    with torch.no_grad():
        for name, parameter in plain.named_parameters():
            parameter.copy_(at[name])
    one = train_step(plain, optimizer, [random_batch(seed=2)], plan_of(), LossWeights())
    two = train_step(rounded, other, [random_batch(seed=2)], plan_of(), LossWeights(), rounded=lent)
    assert torch.equal(one.loss, two.loss)
    assert torch.equal(one.grad_norm, two.grad_norm)
    moved = {name: p.detach() - at[name] for name, p in plain.named_parameters()}
    for name, p in rounded.named_parameters():  # the same update, but for decay, which depends on the weight
        torch.testing.assert_close(p.detach() - start[name], moved[name], atol=2e-3, rtol=0.05)
    assert any(not torch.equal(start[name], at[name]) for name in at)


def test_a_run_rounds_where_its_recipe_says_so(tmp_path: Path) -> None:
    recipe = small_recipe()
    feed = partial(feed_of, recipe)
    losses = []
    for name, one in (("plain", recipe), ("rounded", replace(recipe, rounded=WritePlan()))):
        ended = train(one, feed, RunOptions(out=tmp_path / name, log_every=1))
        losses.append(ended.last["loss"])
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=0.2)
