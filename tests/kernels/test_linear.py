"""Linear maps: products by hand, groups, several weights side by side, dtypes, and the loops against torch."""

from __future__ import annotations

import pytest
import torch

from octavo.kernels.dispatch import Body, use
from octavo.kernels.int8_linear import int8_grouped, int8_linear, round_weight
from octavo.kernels.linear import grouped_linear, linear, loops
from octavo.kernels.linear.grouped import Grouped
from octavo.kernels.wide_linear import wide_linear
from tests.support.bodies import BODIES, take


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_the_weight_is_cast_to_the_input(dtype: torch.dtype) -> None:
    x, weight = torch.randn(2, 5, 8, dtype=dtype), torch.randn(3, 8)
    assert linear(x, weight).dtype == dtype
    torch.testing.assert_close(linear(x, weight), x @ weight.to(dtype).T)
    assert linear(x[:, :0], weight).shape == (2, 0, 3)


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("T", [0, 1, 3, 70])
def test_groups_read_their_rows(T: int, body: str, monkeypatch: pytest.MonkeyPatch) -> None:
    take(body, monkeypatch)
    x, weight = torch.randn(T, 3, 8), torch.randn(6, 8)
    expected = torch.cat([x[:, g] @ weight[2 * g : 2 * g + 2].T for g in range(3)], dim=1)
    with torch.no_grad():
        torch.testing.assert_close(grouped_linear(x, weight), expected)
    torch.testing.assert_close(grouped_linear(x.requires_grad_(), weight), expected)


def test_groups_have_the_gradients_of_single_products() -> None:
    leaves = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in ((5, 3, 8), (3, 2, 8))]
    assert torch.autograd.gradcheck(Grouped.apply, leaves)
    x, weight = leaves
    torch.testing.assert_close(Grouped.apply(x, weight), torch.einsum("tgn,grn->tgr", x, weight).flatten(1))
    (alone,) = torch.autograd.grad(Grouped.apply(x.detach(), weight).sum(), weight)
    torch.testing.assert_close(alone, x.sum(0).detach().unsqueeze(1).expand(-1, 2, -1))


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("shape", [(1, 33), (3, 33), (2, 2, 33)])
def test_loops_equal_torch(shape: tuple[int, ...], body: str, monkeypatch: pytest.MonkeyPatch) -> None:
    take(body, monkeypatch)
    x, weights = torch.randn(shape), [torch.randn(n, 33) for n in (40, 1, 7)]
    with torch.no_grad():
        assert loops.fits(x, *weights)
        assert not loops.fits(x, weights[0].double())
        assert not loops.fits(x, torch.randn(33, 5).T)
        assert not loops.fits(torch.randn(9, 33), weights[0])
        for some in (weights, weights[:1]):
            found = wide_linear(x, *some)
            with use(Body.REFERENCE):
                torch.testing.assert_close(found, wide_linear(x, *some), rtol=1e-5, atol=2e-6)
        monkeypatch.setattr(loops, "_LARGE", 1)
        torch.testing.assert_close(linear(x, weights[0]), x @ weights[0].T, rtol=1e-5, atol=2e-6)


@torch.no_grad()
def test_int8_weights_are_taken_as_they_are() -> None:
    weight = round_weight(torch.randn(6, 8))
    x = torch.randn(4, 3, 8)
    assert torch.equal(linear(x, weight), int8_linear(x, weight))
    assert torch.equal(grouped_linear(x, weight), int8_grouped(x, weight))
