"""Rotary embedding: YaRN's table, complex definition, inverse, relative products, far positions, untouched channels."""

from __future__ import annotations

import pytest
import torch

from octavo.kernels import dispatch
from octavo.kernels.rope import inverse_frequencies, rope_table, rotate

OFFICIAL = {"base": 160000.0, "dims": 64, "factor": 16.0, "original": 65536}


def test_plain_frequencies() -> None:
    expected = torch.tensor([10000.0 ** (-2 * i / 64) for i in range(32)], dtype=torch.float64)
    torch.testing.assert_close(inverse_frequencies(base=10000.0, dims=64), expected, rtol=1e-14, atol=0)
    assert torch.equal(
        inverse_frequencies(base=10000.0, dims=64, factor=1.0, original=65536),
        inverse_frequencies(base=10000.0, dims=64),
    )


def test_official_yarn_table() -> None:
    plain, yarn = inverse_frequencies(base=160000.0, dims=64), inverse_frequencies(**OFFICIAL)
    assert torch.equal(yarn[:16], plain[:16])
    assert torch.equal(yarn[25:], plain[25:] / 16)
    ratio = yarn[16:25] / plain[16:25]
    expected = torch.tensor([1 - (i - 15) / 10 * (1 - 1 / 16) for i in range(16, 25)], dtype=torch.float64)
    torch.testing.assert_close(ratio, expected, rtol=1e-12, atol=0)


def test_definition_by_complex_numbers() -> None:
    frequencies = inverse_frequencies(**OFFICIAL)
    positions = torch.tensor([0, 1, 17, 1_000_000])
    x = torch.randn(4, 96, dtype=torch.float64)
    cos, sin = rope_table(positions, frequencies, dtype=torch.float64)
    turn = torch.polar(torch.ones(4, 32, dtype=torch.float64), positions.double().unsqueeze(1) * frequencies)
    pairs = torch.view_as_complex(x[:, 32:].unflatten(1, (-1, 2)).contiguous())
    expected = torch.cat((x[:, :32], torch.view_as_real(pairs * turn).flatten(1)), dim=1)
    torch.testing.assert_close(rotate(x, cos, sin), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_inverse_undoes_the_rotation(dtype: torch.dtype) -> None:
    x = torch.randn(9, 3, 80, dtype=dtype)
    cos, sin = (
        t.unsqueeze(1) for t in rope_table(torch.arange(9) * 100_003, inverse_frequencies(**OFFICIAL), dtype=dtype)
    )
    turned = rotate(x, cos, sin)
    assert not torch.allclose(turned, x)
    assert torch.equal(turned[..., :16], x[..., :16])
    torch.testing.assert_close(rotate(turned, cos, sin, inverse=True), x, rtol=0, atol=2e-6)


def test_products_depend_on_the_distance_only() -> None:
    frequencies = inverse_frequencies(base=10000.0, dims=32)
    q, k = torch.randn(1, 32, dtype=torch.float64), torch.randn(1, 32, dtype=torch.float64)
    products = []
    for start in (0, 77, 1_048_000):
        cos, sin = rope_table(torch.tensor([start, start + 41]), frequencies)
        products.append((rotate(q, cos[1:], sin[1:]) * rotate(k, cos[:1], sin[:1])).sum())
    torch.testing.assert_close(torch.stack(products[1:]), products[0].expand(2), rtol=0, atol=2e-6)


def test_far_positions_keep_their_phase_in_single_precision() -> None:
    frequencies = inverse_frequencies(base=10000.0, dims=64)
    positions = torch.tensor([2**20 - 1])
    narrow, wide = rope_table(positions, frequencies), rope_table(positions, frequencies, dtype=torch.float64)
    assert narrow[0].dtype == torch.float32
    torch.testing.assert_close(narrow[0].double(), wide[0], rtol=0, atol=1e-7)
    torch.testing.assert_close(narrow[1].double(), wide[1], rtol=0, atol=1e-7)


@pytest.mark.parametrize("shape", [(1,), (8,), (1, 3), (9,), (0,)])
@torch.no_grad()
def test_table_of_a_handful_is_that_of_many(shape: tuple[int, ...]) -> None:
    positions, frequencies = torch.randint(0, 1 << 20, shape), inverse_frequencies(**OFFICIAL)
    found = rope_table(positions, frequencies)
    with dispatch.use(dispatch.Body.REFERENCE):
        expected = rope_table(positions, frequencies)
    torch.testing.assert_close(found, expected, rtol=0, atol=6e-8)


def test_narrow_input_is_rounded_once_and_empty_stays_empty() -> None:
    cos, sin = rope_table(torch.arange(5), inverse_frequencies(base=10000.0, dims=16))
    x = torch.randn(5, 24, dtype=torch.bfloat16)
    assert torch.equal(rotate(x, cos, sin), rotate(x.float(), cos, sin).bfloat16())
    assert rotate(torch.zeros(0, 24), cos[:0], sin[:0]).shape == (0, 24)


def test_gradient() -> None:
    cos, sin = rope_table(torch.arange(3), inverse_frequencies(base=100.0, dims=4), dtype=torch.float64)
    x = torch.randn(3, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: rotate(x, cos, sin), (x,))
    assert torch.autograd.gradcheck(lambda x: rotate(x, cos, sin, inverse=True), (x,))
