"""Index queries in one launch: the bits of rotation, transform and FP4 rounding one after the other; wrong input."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("triton")

from octavo.kernels.hadamard import hadamard
from octavo.kernels.hadamard.triton import rotate_transform
from octavo.kernels.quant import simulate_fp4
from octavo.kernels.rope import inverse_frequencies, rope_table, rotate

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def inputs(T: int, I: int, J: int, P: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    cos, sin = rope_table(50_000 + 3 * torch.arange(T, device=DEVICE), inverse_frequencies(base=10000.0, dims=P))
    return torch.randn(T, I, J, device=DEVICE), cos, sin


@pytest.mark.parametrize(("T", "I", "J", "P"), [(3, 5, 64, 32), (1, 64, 128, 64), (9, 2, 32, 2)])
def test_equals_the_operations_in_turn(T: int, I: int, J: int, P: int) -> None:
    q, cos, sin = inputs(T, I, J, P)
    with torch.no_grad():
        wanted = hadamard(rotate(q, cos.unsqueeze(1), sin.unsqueeze(1)))
    torch.testing.assert_close(rotate_transform(q, cos, sin), wanted, rtol=1e-5, atol=1e-5)


def test_fp4_rounds_as_the_format_does() -> None:
    q, cos, sin = inputs(5, 4, 64, 32)
    exact = rotate_transform(q, cos, sin)
    assert torch.equal(rotate_transform(q, cos, sin, fp4=True), simulate_fp4(exact))


def test_many_rows_are_those_of_few() -> None:
    q, cos, sin = inputs(1030, 4, 32, 16)
    many, few = rotate_transform(q, cos, sin), rotate_transform(q[-3:], cos[-3:], sin[-3:])
    torch.testing.assert_close(many[-3:], few, rtol=0, atol=1e-6)


def test_wrong_input_is_named() -> None:
    q, cos, sin = inputs(2, 2, 64, 32)
    with pytest.raises(ValueError, match="q has 48 channels"):
        rotate_transform(q[..., :48], cos, sin)
    with pytest.raises(ValueError, match=r"cos is \(1, 16\)"):
        rotate_transform(q, cos[:1], sin)
    assert rotate_transform(q[:0], cos[:0], sin[:0]).shape == (0, 2, 64)
