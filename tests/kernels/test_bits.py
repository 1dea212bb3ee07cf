"""Every code of the small formats, decoded in a kernel as torch decodes it."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("triton")

import triton
import triton.language as tl

from octavo.kernels.bits import from_e2m1, from_e4m3, from_e8m0

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@triton.jit
def _decode(codes, e4m3, e8m0, e2m1):
    i = tl.arange(0, 256)
    code = tl.load(codes + i)
    tl.store(e4m3 + i, from_e4m3(code))
    tl.store(e8m0 + i, from_e8m0(code))
    tl.store(e2m1 + i, from_e2m1(code & 15))


def test_all_codes() -> None:
    codes = torch.arange(256, device=DEVICE).to(torch.uint8)
    e4m3, e8m0, e2m1 = (torch.empty(256, device=DEVICE) for _ in range(3))
    _decode[(1,)](codes, e4m3, e8m0, e2m1)
    torch.testing.assert_close(e4m3, codes.view(torch.float8_e4m3fn).float(), rtol=0, atol=0, equal_nan=True)
    torch.testing.assert_close(e8m0, codes.view(torch.float8_e8m0fnu).float(), rtol=0, atol=0, equal_nan=True)
    values = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6], device=DEVICE)
    assert torch.equal(e2m1, values[(codes & 15).long()])
