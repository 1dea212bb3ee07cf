"""FP4 weights unpacked on use, and single experts: bit by bit what the general forms give."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from octavo.kernels import quant
from octavo.kernels.experts import experts
from octavo.kernels.experts.stored import fp4_expert, plain_expert, unpack_fp4

SHAPES = [(32, 32), (96, 160), (32, 96), (160, 512), (512, 1024)]  # F, D; the largest is shared among threads


def same_bits(a: Tensor, b: Tensor) -> bool:
    return torch.equal(a.view(torch.int32), b.view(torch.int32))


@pytest.mark.parametrize("threads", [1, 2])
def test_every_code_and_scale_unpacks_to_the_same_bits(threads: int) -> None:
    codes = torch.arange(256, dtype=torch.int32).to(torch.uint8).view(1, -1).repeat(254, 1).view(torch.int8)
    scale = torch.arange(254, dtype=torch.int32).to(torch.uint8).view(-1, 1).repeat(1, 16)
    out = torch.full((254, 512), 7.0)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        unpack_fp4(codes, scale, out)
    finally:
        torch.set_num_threads(before)
    assert same_bits(out, quant.fp4_unpack(codes, scale))


def test_shapes_that_do_not_belong_together_are_refused() -> None:
    packed, scale = quant.fp4_pack(torch.randn(4, 64))
    with pytest.raises(ValueError, match=r"packed \[4, 32\] and scale \[4, 2\] do not make \[4, 32\]"):
        unpack_fp4(packed, scale, torch.empty(4, 32))
    with pytest.raises(ValueError, match=r"do not make \[3, 64\]"):
        unpack_fp4(packed, scale, torch.empty(3, 64))


@pytest.mark.parametrize("limit", [None, 2.0])
@pytest.mark.parametrize("shape", SHAPES)
@torch.inference_mode()
def test_experts_one_by_one_sum_up_to_the_same_bits(shape: tuple[int, int], limit: float | None) -> None:
    F, D = shape
    X, A = 3, 2
    packed = [[quant.fp4_pack(torch.randn(*s)) for s in ((F, D), (F, D), (D, F))] for _ in range(X)]
    plain = [[quant.fp4_unpack(*pair) for pair in expert] for expert in packed]
    w1, w3, w2 = (torch.stack([expert[part] for expert in plain]) for part in range(3))
    x, shares = torch.randn(3, D), torch.rand(3, A)
    chosen = torch.tensor([[0, 2], [1, 1], [2, 0]])
    expected = experts(x, w1, w3, w2, chosen=chosen, weights=shares, limit=limit)
    unpacked, in_place = torch.zeros(3, D), torch.zeros(3, D)
    for t, row in enumerate(chosen.tolist()):
        for a, e in enumerate(row):
            share = float(shares[t, a])
            plain_expert(x[t], *plain[e], share=share, limit=limit, out=unpacked[t])
            fp4_expert(x[t], *packed[e], share=share, limit=limit, out=in_place[t])
    assert same_bits(unpacked, expected)
    assert same_bits(in_place, expected)
    assert expected.abs().max() > 0
