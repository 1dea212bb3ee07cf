"""Norm and rotation in Triton: the reference's values and gradients, the way back, empty input, wrong input."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton")

from octavo.kernels import dispatch, rope
from octavo.kernels.rope import inverse_frequencies, ref, rope_table
from octavo.kernels.rope.triton import norm_rotate, rotate

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def table(T: int, P: int) -> tuple[Tensor, Tensor]:
    return rope_table(7 * torch.arange(T, device=DEVICE), inverse_frequencies(base=10000.0, dims=P))


def gradients(body: Callable[..., Tensor], *leaves: Tensor) -> tuple[Tensor, ...]:
    leaves = tuple(one.detach().requires_grad_() for one in leaves)
    out = body(*leaves)
    g = torch.linspace(-1, 2, out.numel(), device=DEVICE, dtype=out.dtype).view(out.shape)
    return out.detach(), *torch.autograd.grad(out, leaves, g)


@pytest.mark.parametrize(("shape", "P"), [((5, 3, 40), 16), ((9, 64), 64), ((4, 2, 24), 6), ((300, 8), 2)])
def test_values_and_gradients_with_weight(shape: tuple[int, ...], P: int) -> None:
    x, weight = torch.randn(shape, device=DEVICE), torch.randn(shape[-1], device=DEVICE)
    cos, sin = table(shape[0], P)
    wide = [c.double().view(shape[0], *[1] * (len(shape) - 2), -1) for c in (cos, sin)]
    got = gradients(lambda x, w: norm_rotate(x, w, cos, sin, eps=1e-6), x, weight)
    wanted = gradients(lambda x, w: ref.norm_rotate(x, w, *wide, eps=1e-6), x.double(), weight.double())
    for a, b in zip(got, wanted, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-5, atol=2e-5)


def test_values_and_gradients_without_weight() -> None:
    x, (cos, sin) = torch.randn(6, 4, 32, device=DEVICE), table(6, 8)
    got = gradients(lambda x: norm_rotate(x, None, cos.unsqueeze(1), sin.unsqueeze(1), eps=1e-6), x)
    wide = cos.double().unsqueeze(1), sin.double().unsqueeze(1)
    wanted = gradients(lambda x: ref.norm_rotate(x, None, *wide, eps=1e-6), x.double())
    for a, b in zip(got, wanted, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("inverse", [False, True])
def test_rotation_and_its_gradient(inverse: bool) -> None:
    x, (cos, sin) = torch.randn(6, 2, 20, device=DEVICE), table(6, 8)
    got = gradients(lambda x: rotate(x, cos, sin, inverse=inverse), x)
    wide = cos.double().unsqueeze(1), sin.double().unsqueeze(1)
    wanted = gradients(lambda x: ref.rotate(x, *wide, inverse=inverse), x.double())
    for a, b in zip(got, wanted, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-6, atol=1e-6)


def test_there_and_back() -> None:
    x, (cos, sin) = torch.randn(3, 16, device=DEVICE), table(3, 8)
    turned = rotate(x, cos, sin)
    assert torch.equal(turned[:, :8], x[:, :8])
    assert not torch.allclose(turned[1:, 8:], x[1:, 8:])
    torch.testing.assert_close(rotate(turned, cos, sin, inverse=True), x)


@pytest.mark.filterwarnings("ignore:invalid value")  # of the products that are not taken
def test_an_infinite_still_channel_stays_where_it_is() -> None:
    x, (cos, sin) = torch.ones(2, 16, device=DEVICE), table(2, 8)
    x[0, 1] = torch.inf
    got = rotate(x, cos, sin)
    assert got[0, 1] == torch.inf
    assert got[0, [0, *range(2, 16)]].isfinite().all()


def test_no_tokens() -> None:
    x, (cos, sin) = torch.empty(0, 4, 16, device=DEVICE, requires_grad=True), table(0, 8)
    weight = torch.ones(16, device=DEVICE, requires_grad=True)
    out = norm_rotate(x, weight, cos, sin, eps=1e-6)
    out.sum().backward()
    assert out.shape == (0, 4, 16)
    assert weight.grad is not None
    assert not weight.grad.any()


def test_wrong_input() -> None:
    x, (cos, sin) = torch.ones(3, 16, device=DEVICE), table(3, 8)
    with pytest.raises(ValueError, match=r"x is .* \(3, 15\); .* N even"):
        rotate(x[:, 1:], cos, sin)
    with pytest.raises(ValueError, match=r"cos has the shape \(2, 4\); it must be \[3, 1 to 8\]"):
        rotate(x, cos[:2], sin[:2])
    with pytest.raises(ValueError, match=r"sin has the shape \(2, 4\)"):
        rotate(x, cos, sin[:2])
    with pytest.raises(ValueError, match=r"weight has the shape \(8,\); it must be \(16,\)"):
        norm_rotate(x, torch.ones(8, device=DEVICE), cos, sin, eps=1e-6)


@pytest.mark.parametrize(
    ("rows", "angles"),
    [((6, 3, 24), (6, 1)), ((6, 24), (6,)), ((2, 5, 24), (2, 5)), ((2, 5, 24), (5,)), ((2, 5, 24), (1, 5)),
     ((2, 1, 24), (2, 1)), ((2, 3, 4, 24), (2, 3, 1))],
)  # fmt: skip
def test_every_way_that_a_table_broadcasts(
    rows: tuple[int, ...], angles: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through the package, as training on a GPU goes."""
    monkeypatch.setattr(dispatch, "trains_in_triton", lambda x, operation: operation == "rope")
    positions = torch.randint(100, angles, device=DEVICE)
    cos, sin = rope_table(positions, inverse_frequencies(base=10000.0, dims=8))
    x, weight = torch.randn(rows, device=DEVICE), torch.randn(24, device=DEVICE)
    for got, wanted in (
        (rope.rotate(x, cos, sin), ref.rotate(x, cos, sin)),
        (rope.rotate(x, cos, sin, inverse=True), ref.rotate(x, cos, sin, inverse=True)),
        (rope.norm_rotate(x, weight, cos, sin, eps=1e-6), ref.norm_rotate(x, weight, cos, sin, eps=1e-6)),
    ):
        torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)
