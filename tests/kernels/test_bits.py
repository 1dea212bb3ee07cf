"""Every code of the small formats, decoded in a kernel as torch decodes it, and values encoded as `quant` does."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("triton")

import triton
import triton.language as tl

from octavo.kernels.bits import (
    e8m0_of,
    from_e2m1,
    from_e4m3,
    from_e8m0,
    inverse_e8m0,
    magnitude,
    to_bf16,
    to_e2m1,
    to_e4m3,
)
from octavo.kernels.quant.ref import BIAS, FP4_FLOOR, FP8_FLOOR, encode_e2m1, round_e4m3, scale_exponent

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
BLOCK = 4096


@triton.jit
def _decode(codes, e4m3, e8m0, inverse, e2m1):
    i = tl.arange(0, 256)
    code = tl.load(codes + i)
    tl.store(e4m3 + i, from_e4m3(code))
    tl.store(e8m0 + i, from_e8m0(code))
    tl.store(inverse + i, inverse_e8m0(code))
    tl.store(e2m1 + i, from_e2m1(code & 15))


@triton.jit
def _encode(values, e4m3, e2m1, bf16, of_448, of_6, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(values + i)
    tl.store(e4m3 + i, to_e4m3(x))
    tl.store(e2m1 + i, to_e2m1(x))
    tl.store(bf16 + i, to_bf16(x))
    tl.store(of_448 + i, e8m0_of(x, 448))
    tl.store(of_6 + i, e8m0_of(x, 6))


@triton.jit
def _largest(values, out, N: tl.constexpr):
    size = tl.max(magnitude(tl.load(values + tl.arange(0, N))), axis=0)
    tl.store(out, size.to(tl.float32, bitcast=True))


def _encoded(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    padded = torch.nn.functional.pad(x, (0, -len(x) % BLOCK))
    outs = [torch.empty(len(padded), dtype=torch.uint8, device=DEVICE) for _ in range(4)]
    outs.insert(2, torch.empty(len(padded), dtype=torch.int16, device=DEVICE))
    _encode[(len(padded) // BLOCK,)](padded, *outs, BLOCK=BLOCK)
    return tuple(out[: len(x)] for out in outs)


def _values() -> torch.Tensor:
    """Random numbers of every size, all codes with their neighbours and the middles between them, the special ones."""
    codes = torch.arange(256).to(torch.uint8).view(torch.float8_e4m3fn).float()
    codes = codes[codes.isfinite()].sort().values
    middles = torch.cat((codes, (codes[1:] + codes[:-1]) / 2, torch.tensor([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0])))
    special = torch.tensor([torch.inf, -torch.inf, torch.nan, -torch.nan, 0.0, -0.0, 1e-4, 6 * 2.0**-126, 1e38])
    bits = torch.randint(-(2**31), 2**31 - 1, (3 * BLOCK,), dtype=torch.int64).to(torch.int32).view(torch.float32)
    near = torch.randn(3 * BLOCK) * torch.exp2(torch.randint(-12, 10, (3 * BLOCK,)).float())
    up, down = (middles.nextafter(torch.tensor(side)) for side in (torch.inf, -torch.inf))
    exact = torch.cat((middles, up, down))
    return torch.cat((bits, near, exact, -exact, special)).to(DEVICE)


def test_all_codes() -> None:
    codes = torch.arange(256, device=DEVICE).to(torch.uint8)
    e4m3, e8m0, inverse, e2m1 = (torch.empty(256, device=DEVICE) for _ in range(4))
    _decode[(1,)](codes, e4m3, e8m0, inverse, e2m1)
    torch.testing.assert_close(e4m3, codes.view(torch.float8_e4m3fn).float(), rtol=0, atol=0, equal_nan=True)
    torch.testing.assert_close(e8m0, codes.view(torch.float8_e8m0fnu).float(), rtol=0, atol=0, equal_nan=True)
    torch.testing.assert_close(inverse, 1 / e8m0, rtol=0, atol=0, equal_nan=True)
    values = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6], device=DEVICE)
    assert torch.equal(e2m1, values[(codes & 15).long()])


def test_values_are_encoded_as_quant_does() -> None:
    x = _values()
    e4m3, e2m1, bf16, _, _ = _encoded(x)
    wanted = round_e4m3(x)
    assert torch.equal(e4m3[x == x], wanted.view(torch.uint8)[x == x])
    assert e4m3[x != x].bitwise_and(0x7F).eq(0x7F).all()
    assert wanted.float()[x != x].isnan().all()
    assert torch.equal(e2m1, encode_e2m1(x.nan_to_num(0.0)))
    assert torch.equal(bf16[x == x], x.to(torch.bfloat16).view(torch.int16)[x == x])
    assert bf16.view(torch.bfloat16)[x != x].isnan().all()


def test_scale_bytes_are_those_of_quant() -> None:
    tops = torch.tensor([448.0, 6.0], device=DEVICE)
    around = torch.cat((tops, tops.nextafter(torch.zeros(2, device=DEVICE)), tops.nextafter(10 * tops)))
    steps = torch.exp2(torch.arange(-40, 100, device=DEVICE).float())
    x = torch.cat((_values(), (around.unsqueeze(1) * steps).flatten()))
    _, _, _, of_448, of_6 = _encoded(x)
    for got, largest, floor in ((of_448, 448.0, FP8_FLOOR), (of_6, 6.0, FP4_FLOOR)):
        wanted = scale_exponent(x.abs().clamp_min(floor), largest) + BIAS
        assert torch.equal(got.int(), wanted)


@pytest.mark.parametrize("odd", [torch.nan, -torch.nan, -torch.inf])
def test_a_maximum_keeps_what_is_not_finite(odd: float) -> None:
    x, out = torch.randn(64, device=DEVICE), torch.zeros(1, device=DEVICE)
    _largest[(1,)](x, out, N=64)
    assert out.item() == x.abs().max().item()
    x[17] = odd
    _largest[(1,)](x, out, N=64)
    torch.testing.assert_close(out, x.abs().max().view(1), equal_nan=True)
