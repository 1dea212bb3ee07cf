"""Muon and AdamW: singular values, update size, batches, formulas step by step, missing gradients, decay by role."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from octavo.train.groups import Role, matrices, role
from octavo.train.optim import UPDATE_RMS, OptimConfig, Optimizer, orthogonalise
from tests.support.training import fresh, small_config

STEPS = {"fast_steps": 8, "polish_steps": 2}


def with_condition(rows: int, columns: int, condition: float, dtype: torch.dtype = torch.float64) -> Tensor:
    """A random matrix whose singular values run evenly in the logarithm from 1 down to 1 / condition."""
    n = min(rows, columns)
    left, right = (
        torch.linalg.qr(torch.randn(rows, n).double())[0],
        torch.linalg.qr(torch.randn(columns, n).double())[0],
    )
    return (left * torch.logspace(0, -torch.tensor(condition).log10().item(), n) @ right.T).to(dtype)


@pytest.mark.parametrize(("rows", "columns"), [(32, 32), (24, 96), (96, 24), (1, 40)])
@pytest.mark.parametrize("condition", [1.0, 30.0, 1e3])
def test_singular_values_come_close_to_one(rows: int, columns: int, condition: float) -> None:
    g = with_condition(rows, columns, condition).float()
    made = orthogonalise(g.unsqueeze(0) * 1e-4, **STEPS)[0]
    values = torch.linalg.svdvals(made)
    assert float(values.min()) >= 0.99
    assert float(values.max()) <= 1.01
    left, _, right = torch.linalg.svd(g.double(), full_matrices=False)
    torch.testing.assert_close(made.double(), left @ right, rtol=0, atol=5e-3)


def test_polishing_is_what_brings_them_there() -> None:
    g = with_condition(32, 32, 1e3).float().unsqueeze(0)
    rough = torch.linalg.svdvals(orthogonalise(g, fast_steps=8, polish_steps=0))
    assert float((rough - 1).abs().max()) > 0.05


def test_batched_equals_looped() -> None:
    g = torch.randn(7, 12, 30)
    looped = torch.cat([orthogonalise(one.unsqueeze(0), **STEPS) for one in g])
    torch.testing.assert_close(orthogonalise(g, **STEPS), looped, rtol=0, atol=1e-5)


def test_bfloat16_points_the_same_way() -> None:
    g = torch.randn(3, 24, 64)
    wide, narrow = orthogonalise(g, **STEPS), orthogonalise(g.bfloat16(), **STEPS).float()
    assert torch.cosine_similarity(wide.flatten(1), narrow.flatten(1)).min() >= 0.999


def test_zero_gradient_gives_no_update() -> None:
    assert orthogonalise(torch.zeros(2, 4, 6), **STEPS).abs().max() == 0


def gradients(optimizer: Optimizer, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in optimizer.parameters.values():
        parameter.grad = torch.randn(parameter.shape, generator=generator)


def test_update_size_is_the_same_for_every_matrix() -> None:
    config = small_config()
    model, optimizer = fresh(config, optim=OptimConfig(matrix_lr=1.0, decay=0.0))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    gradients(optimizer, 0)
    optimizer.step(1.0)
    checked = 0
    for name, p in model.named_parameters():
        if role(name) is Role.MATRIX:
            count = matrices(name, config)
            update = (p.detach() - before[name]).view(count, -1, p.shape[-1])
            rms = update.square().mean((1, 2)).sqrt()
            torch.testing.assert_close(rms, torch.full((count,), UPDATE_RMS), rtol=0.01, atol=0)
            checked += count
    assert checked > 40


def test_matrices_by_hand_over_three_steps() -> None:
    config = small_config()
    model, optimizer = fresh(config, optim=OptimConfig(matrix_lr=0.02, decay=0.3, momentum=0.8))
    name = "layers.1.ffn.experts.w1"
    weight, momentum = dict(model.named_parameters())[name].detach().clone(), torch.zeros(4, 16, 24)
    for step, rate in enumerate((1.0, 0.5, 0.25)):
        gradients(optimizer, step)
        grad = optimizer.parameters[name].grad
        assert grad is not None
        momentum = 0.8 * momentum + grad
        for expert in range(4):
            ahead = (grad + 0.8 * momentum)[expert : expert + 1]
            update = orthogonalise(ahead, **STEPS)[0] * 0.18 * 24**0.5
            weight[expert] = weight[expert] * (1 - 0.02 * rate * 0.3) - 0.02 * rate * update
        optimizer.step(rate)
    torch.testing.assert_close(optimizer.parameters[name].detach(), weight, rtol=0, atol=1e-5)
    torch.testing.assert_close(optimizer.state[name]["momentum"], momentum)


def test_the_rest_equals_torch_adamw() -> None:
    model, optimizer = fresh(optim=OptimConfig(embedding_lr=3e-3, scalar_lr=2e-3, table_lr=1e-2, decay=0.2))
    lr = {Role.EMBEDDING: 3e-3, Role.SCALAR: 2e-3, Role.TABLE: 1e-2}
    twins = {name: nn.Parameter(p.detach().clone()) for name, p in model.named_parameters() if role(name) in lr}
    assert {role(name) for name in twins} == set(lr)
    groups = [
        {"params": [p], "lr": lr[role(name)] * 0.5, "weight_decay": 0.2 if role(name) is Role.EMBEDDING else 0.0}
        for name, p in twins.items()
    ]
    reference = torch.optim.AdamW(groups, betas=(0.9, 0.95), eps=1e-10)
    for step in range(4):
        gradients(optimizer, step)
        for name, twin in twins.items():
            twin.grad = optimizer.parameters[name].grad
        optimizer.step(0.5)
        reference.step()
    for name, twin in twins.items():
        torch.testing.assert_close(optimizer.parameters[name].detach(), twin.detach(), rtol=1e-5, atol=1e-6)


def test_parameters_without_a_gradient_are_left_alone() -> None:
    model, optimizer = fresh()
    gradients(optimizer, 0)
    idle = ("layers.1.attn.indexer.wq_b.weight", "embed.weight", "layers.1.engram.table.weight", "norm.weight")
    for name in idle:
        optimizer.parameters[name].grad = None
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer.step(1.0)
    for name, p in model.named_parameters():
        assert torch.equal(p, before[name]) == (name in idle), name
    for name in idle:
        assert all(not state.any() for state in optimizer.state[name].values())
    optimizer.zero_grad()
    assert all(p.grad is None for p in model.parameters())


def test_every_parameter_has_state_of_its_own_shape() -> None:
    model, optimizer = fresh()
    assert set(optimizer.state) == {name for name, _ in model.named_parameters()}
    for name, p in model.named_parameters():
        kinds = {"momentum"} if role(name) is Role.MATRIX else {"first", "second"}
        assert set(optimizer.state[name]) == kinds
        assert all(value.shape == p.shape for value in optimizer.state[name].values())


def test_untouched_table_rows_do_not_move() -> None:
    model, optimizer = fresh()
    name = "layers.1.engram.table.weight"
    table = optimizer.parameters[name]
    before = table.detach().clone()
    table.grad = torch.zeros_like(table)
    table.grad[5] = 1e-6
    optimizer.step(1.0)
    moved = (table != before).any(1).nonzero().flatten().tolist()
    assert moved == [5]
    torch.testing.assert_close(before[5] - table[5], torch.full((8,), 1.5e-2), rtol=1e-3, atol=1e-6)
