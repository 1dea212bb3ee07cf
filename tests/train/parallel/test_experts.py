"""Experts on several ranks: the weights a rank keeps, and an exchange with itself. Several ranks: `test_sharding`."""

from __future__ import annotations

import copy

import torch
import torch.distributed as dist

from octavo.kernels.experts.ref import keep
from octavo.kernels.route import Routing
from octavo.model.moe import Experts
from octavo.train.parallel.experts import spread_experts
from tests.support.training import small_config


def made(tokens: int) -> tuple[Experts, torch.Tensor, Routing]:
    """Random experts, and tokens that choose the first three of four."""
    module = Experts(small_config())
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    chosen = torch.stack([torch.randperm(3)[:2] for _ in range(tokens)]) if tokens else torch.zeros(0, 2).long()
    weights = torch.rand(tokens, 2, requires_grad=True)
    return module, torch.randn(tokens, 24, requires_grad=True), Routing(chosen, weights, torch.rand(tokens, 4))


def test_the_exchange_changes_nothing(one_rank: dist.ProcessGroup) -> None:
    module, x, routing = made(9)
    spread = copy.deepcopy(module)
    spread_experts(spread, one_rank)
    outs, grads = [], []
    for one in (module, spread):
        out = one(x, routing, limit=2.0, round_hidden=keep)
        outs.append(out)
        grads.append(torch.autograd.grad(out.square().sum(), [x, routing.weights, *one.parameters()]))
    torch.testing.assert_close(outs[1], outs[0])
    for mine, theirs in zip(*grads, strict=True):
        torch.testing.assert_close(mine, theirs)


def test_without_a_token_the_way_back_is_still_there(one_rank: dist.ProcessGroup) -> None:
    module, x, routing = made(0)
    spread_experts(module, one_rank)
    out = module(x, routing, limit=None, round_hidden=keep)
    assert out.shape == (0, 24)
    given = torch.autograd.grad(out.sum(), [x, routing.weights])
    assert [tuple(g.shape) for g in given] == [(0, 24), (0, 2)]
