"""Routed experts: the four bodies agree (repeats, unused experts, clamps, rounding), dispatch, no tokens, gradient."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from octavo.kernels.dispatch import Body, use
from octavo.kernels.experts import experts, fast, ref, swiglu
from tests.support.bodies import BODIES as OF_FEW
from tests.support.bodies import take

BODIES: dict[str, Callable[..., Tensor]] = {"grouped": fast.grouped, "gathered": fast.gathered, "dense": fast.dense}


def weights_of(X: int, F: int, D: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    return (
        torch.randn(X, F, D, dtype=dtype),
        torch.randn(X, F, D, dtype=dtype),
        torch.randn(X, D, F, dtype=dtype) * F**-0.5,
    )


def test_one_expert_by_hand() -> None:
    x, (w1, w3, w2) = torch.randn(1, 3), weights_of(1, 2, 3, torch.float32)
    gate, up = (w1[0] @ x[0]).clamp(max=0.5), (w3[0] @ x[0]).clamp(-0.5, 0.5)
    expected = w2[0] @ (gate / (1 + torch.exp(-gate)) * up * 0.7)
    for body in Body:
        with use(body):
            out = experts(
                x, w1, w3, w2, chosen=torch.zeros(1, 1, dtype=torch.int64), weights=torch.full((1, 1), 0.7), limit=0.5
            )
        torch.testing.assert_close(out[0], expected)


def test_gate_is_clamped_from_above_only() -> None:
    gate, up = torch.tensor([50.0, -50.0, -3.0, 1.0]), torch.tensor([1.0, 1.0, -50.0, 50.0])
    expected = torch.tensor([10.0, -50.0, -3.0, 1.0]).sigmoid() * torch.tensor([10.0, -50.0, -3.0, 1.0])
    torch.testing.assert_close(swiglu(gate, up, 10.0), expected * torch.tensor([1.0, 1.0, -10.0, 10.0]))
    torch.testing.assert_close(swiglu(gate, up, None), torch.nn.functional.silu(gate) * up)


@pytest.mark.parametrize("body", BODIES)
@given(
    chosen=st.lists(st.lists(st.integers(0, 3), min_size=3, max_size=3), min_size=1, max_size=9),
    limit=st.sampled_from([None, 0.3, 10.0]),
)
def test_bodies_equal_the_reference(body: str, chosen: list[list[int]], limit: float | None) -> None:
    generator = torch.Generator().manual_seed(len(chosen))
    x = torch.randn(len(chosen), 5, generator=generator, dtype=torch.float64)
    w1, w3, w2 = (torch.randn(s, generator=generator, dtype=torch.float64) for s in ((4, 6, 5), (4, 6, 5), (4, 5, 6)))
    picks, weights = torch.tensor(chosen), torch.rand(len(chosen), 3, generator=generator, dtype=torch.float64)
    options = {"chosen": picks, "weights": weights, "limit": limit}
    expected = ref.experts(x, w1, w3, w2, **options)
    torch.testing.assert_close(BODIES[body](x, w1, w3, w2, **options), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("body", BODIES)
def test_a_repeated_expert_counts_each_time(body: str) -> None:
    x, (w1, w3, w2) = torch.randn(2, 4, dtype=torch.float64), weights_of(3, 5, 4)
    double, single = torch.tensor([[1, 1], [2, 2]]), torch.tensor([[1], [2]])
    twice = BODIES[body](x, w1, w3, w2, chosen=double, weights=torch.full((2, 2), 0.25).double(), limit=None)
    once = BODIES[body](x, w1, w3, w2, chosen=single, weights=torch.full((2, 1), 0.5).double(), limit=None)
    torch.testing.assert_close(twice, once, rtol=0, atol=1e-13)


@pytest.mark.parametrize("body", BODIES)
def test_rounding_is_applied_to_the_weighted_hidden_vector(body: str) -> None:
    x, (w1, w3, w2) = torch.randn(6, 4, dtype=torch.float64), weights_of(3, 8, 4)
    chosen = torch.rand(6, 3).argsort(1)[:, :2]
    options = {"chosen": chosen, "weights": torch.rand(6, 2).double(), "limit": 2.0}

    def coarse(hidden: Tensor) -> Tensor:
        assert hidden.shape[-1] == 8
        return (hidden * 4).round() / 4

    expected = ref.experts(x, w1, w3, w2, **options, round_hidden=coarse)
    options["round_hidden"] = coarse
    torch.testing.assert_close(BODIES[body](x, w1, w3, w2, **options), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("of_few", OF_FEW)
@pytest.mark.parametrize("limit", [None, 1.0])
@pytest.mark.parametrize("T", [0, 1, 4, 5, 40])
@torch.no_grad()
def test_dispatch_by_number_of_tokens(
    T: int, limit: float | None, of_few: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    take(of_few, monkeypatch)
    x, (w1, w3, w2) = torch.randn(T, 4), weights_of(6, 5, 4, torch.float32)
    options = {"chosen": torch.randint(0, 6, (T, 2)), "weights": torch.rand(T, 2), "limit": limit}
    quick = experts(x, w1, w3, w2, **options)
    with use(Body.REFERENCE):
        plain = experts(x, w1, w3, w2, **options)
    assert quick.shape == plain.shape == (T, 4)
    # sums of up to ten run in other orders, and how a processor joins products with sums differs
    torch.testing.assert_close(quick, plain, rtol=1e-6, atol=2e-6)


@pytest.mark.parametrize("body", [*BODIES, "reference"])
def test_narrow_input_gives_single_precision_sums(body: str) -> None:
    x, ws = torch.randn(8, 16).bfloat16(), weights_of(4, 8, 16, torch.float32)
    options = {"chosen": torch.randint(0, 4, (8, 2)), "weights": torch.rand(8, 2), "limit": 10.0}
    out = (BODIES | {"reference": ref.experts})[body](x, *ws, **options)
    wide = ref.experts(x.double(), *ws, **options)
    assert out.dtype == torch.float32
    assert (out.double() - wide).norm() < 0.03 * wide.norm()


@pytest.mark.parametrize("body", BODIES)
def test_gradient(body: str) -> None:
    chosen = torch.tensor([[0, 2], [2, 2], [0, 1]])
    inputs = [torch.randn(3, 2, dtype=torch.float64), *weights_of(4, 2, 2), torch.rand(3, 2, dtype=torch.float64)]

    def run(x: Tensor, w1: Tensor, w3: Tensor, w2: Tensor, weights: Tensor) -> Tensor:
        return BODIES[body](x, w1, w3, w2, chosen=chosen, weights=weights, limit=1.5)

    assert torch.autograd.gradcheck(run, [v.requires_grad_() for v in inputs])
