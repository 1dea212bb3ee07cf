"""A step of training in Triton: loss and every gradient equal those of the plain bodies, and every kernel had a part.

Without a GPU the kernels run in Triton's interpreter. A stand-in says that this trains on one, but to
Triton's bodies alone, so that nothing else is compiled.
"""

from __future__ import annotations

import copy
import importlib
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton")

from octavo.kernels import dispatch
from octavo.kernels.dispatch import TRITON, Body, body, train_in_triton, use
from octavo.model.transformer import Transformer
from octavo.train.optim import OptimConfig, Optimizer
from octavo.train.step import Batch, LossWeights, recompute_layers, train_step
from tests.support.training import fresh, plan_of, random_batch, small_config

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
FREE = LossWeights(clip=math.inf, balance=1e-2)
# operation -> modules behind octavo.kernels with their functions that a step calls
KERNELS: dict[str, dict[str, tuple[str, ...]]] = {
    "cross_entropy": {"cross_entropy.triton": ("cross_entropy",)},
    "engram_lookup": {"engram_lookup.triton": ("row_ids", "gather"), "engram_lookup.triton_recall": ("recall",)},
    "experts": {"experts.triton_backward": ("experts",)},
    "hyper": {"hyper.triton_backward": ("begin", "cross", "write", "merge")},
    "index_topk": {"index_topk.triton_training": ("marked_topk",)},
    "rmsnorm": {"rmsnorm.triton": ("rmsnorm",)},
    "rope": {"rope.triton": ("norm_rotate", "rotate")},
    "route": {"route.triton": ("choose",)},
    "sparse_attention": {"sparse_attention.triton_training": ("attend_with_sums",)},
}


def called_of(operation: str) -> set[str]:
    """What `calls` counts for an operation."""
    return {f"{operation}.{name}" for names in KERNELS[operation].values() for name in names}


@pytest.fixture(autouse=True)
def _trains_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any device counts as a GPU for Triton's bodies, and none for the others."""

    def here(x: Tensor, operation: str) -> bool:
        return torch.is_grad_enabled() and body() is Body.FAST and operation in dispatch._IN_TRITON.get()

    monkeypatch.setattr(dispatch, "trains_in_triton", here)
    monkeypatch.setattr(dispatch, "trains_on_gpu", lambda x: False)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each kernel function was called, by operation and name."""
    seen: Counter[str] = Counter()

    def counted(key: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            seen[key] += 1
            return function(*arguments, **options)

        return call

    for operation, path, names in [(op, *each) for op, modules in KERNELS.items() for each in modules.items()]:
        module = importlib.import_module(f"octavo.kernels.{path}")
        for name in names:
            monkeypatch.setattr(module, name, counted(f"{operation}.{name}", getattr(module, name)))
    return seen


def warmed(**fields: Any) -> Transformer:
    """A model past its start, where blocks are still the identity and the head is zero; on the device under test."""
    config = small_config(hidden_size=32, hc_sinkhorn_iters=2, **fields)
    model, optimizer = fresh(config)
    with train_in_triton(()), use(Body.FAST):
        for i in range(3):
            train_step(model, optimizer, [random_batch(2, seed=100 + i)], plan_of(), LossWeights())
    return model.to(DEVICE)


def stepped(model: Transformer, batch: Batch, topk: int | None) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Loss, index loss and gradients of one step from the model's weights, which stay."""
    model = copy.deepcopy(model)
    optimizer = Optimizer(dict(model.named_parameters()), model.config, OptimConfig())
    moved = replace(batch, **{name: getattr(batch, name).to(DEVICE) for name in ("tokens", "weight", "positions")})
    if batch.dilution is not None:
        moved = replace(moved, dilution=batch.dilution.to(DEVICE))
    report = train_step(model, optimizer, [moved], plan_of(topk=topk, length=batch.tokens.shape[1]), FREE)
    grads = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return report.loss, report.index_loss, grads


def equal_steps(model: Transformer, batch: Batch, topk: int | None = None) -> None:
    """Compare a step with Triton's bodies with one of the plain bodies."""
    with use(Body.REFERENCE):
        loss, index_loss, grads = stepped(model, batch, topk)
    got, got_index, made = stepped(model, batch, topk)
    torch.testing.assert_close(got, loss, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(got_index, index_loss, rtol=1e-4, atol=1e-6)
    assert made.keys() == grads.keys()
    whole = float(torch.stack([g.norm() for g in grads.values()]).norm())
    off = {n: float((made[n] - g).norm()) / (float(g.norm()) + 1e-4 * whole) for n, g in grads.items()}
    assert {name: value for name, value in off.items() if not value < 1e-4} == {}


def test_every_kernel_has_a_part_in_an_equal_step(calls: Counter[str]) -> None:
    """Window, CSA with picks, Engram, predictor."""
    model = warmed(num_nextn_predict_layers=1)
    equal_steps(model, random_batch(1, seed=5, length=12), topk=2)
    assert set().union(*map(called_of, KERNELS)) - set(calls) == set()
    assert set(KERNELS) == TRITON


def test_picks_and_their_mass() -> None:
    model = warmed()
    with train_in_triton(("sparse_attention",)):
        equal_steps(model, random_batch(2, seed=6), topk=4)


def test_dense_entries_with_an_offset() -> None:
    batch = replace(random_batch(2, seed=7, length=136), dilution=torch.tensor([3.0, 0.0]))
    model = warmed(compress_ratios=(128,), engram=None)
    with train_in_triton(("sparse_attention",)):
        equal_steps(model, batch)


def test_recomputed_layers_take_the_same_bodies(calls: Counter[str]) -> None:
    model = warmed(compress_ratios=(0,), engram=None)
    recompute_layers(model)
    with train_in_triton(("hyper",)):
        stepped(model, random_batch(1, seed=8, length=12), None)
    assert set(calls) == called_of("hyper")
    calls.clear()
    with use(Body.REFERENCE):
        stepped(model, random_batch(1, seed=8, length=12), None)
    assert calls == Counter()


@pytest.mark.parametrize("operation", sorted(TRITON))
def test_one_operation_alone(operation: str, calls: Counter[str]) -> None:
    model = warmed()
    with train_in_triton((operation,)):
        equal_steps(model, random_batch(1, seed=9, length=12), topk=2 if operation == "index_topk" else None)
    assert {key.split(".")[0] for key in calls} == {operation}


def test_dtypes_and_shapes_that_kernels_do_not_take_keep_their_bodies(calls: Counter[str]) -> None:
    batch = random_batch(1, seed=10, length=12)
    equal_steps(warmed().double(), batch)
    assert set(calls) == {"engram_lookup.row_ids"}  # its numbers are integers
    calls.clear()
    model = warmed(hc_mult=3, moe_intermediate_size=24, engram=None, compress_ratios=(0,), num_hash_layers=0)
    with train_in_triton(("hyper", "experts", "route")):
        equal_steps(model, batch)
    assert set(calls) == {"route.choose"}
