"""Experts on FP8 products: formats, clamps, repeats and gaps, uneven tiles, wide spreads of scales, NaN, refusals."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton")

from octavo.kernels.experts import ref
from octavo.kernels.experts.triton_fp8 import experts_fp8, tiles_for
from octavo.kernels.experts.weights import ExpertFormat, ExpertWeights
from octavo.kernels.linear.packed import Tiles
from octavo.kernels.linear.packed_fp8 import row_tops
from octavo.kernels.quant import (
    fp4_pack,
    fp4_unpack,
    fp8_dequantize_blocks,
    fp8_quantize_blocks,
    simulate_fp8,
)

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
# A GPU sums FP8 products in about 14 bits; a hidden value that falls to the other side of a rounding step is 2^-4 off.
CLOSE = 5e-3 if DEVICE == "cuda" else 1e-5
Values = tuple[Tensor, Tensor, Tensor]


def drawn(form: ExpertFormat, X: int, F: int, D: int) -> ExpertWeights:
    """Stored weights."""
    pack = fp4_pack if form == "fp4" else fp8_quantize_blocks
    made = {}
    for name, out, width in (("1", F, D), ("3", F, D), ("2", D, F)):
        packed = [pack(torch.randn(out, width) * width**-0.5) for _ in range(X)]
        made[f"w{name}"] = torch.stack([w.view(torch.uint8) for w, _ in packed]).to(DEVICE)
        made[f"s{name}"] = torch.stack([s for _, s in packed]).to(DEVICE)
    return ExpertWeights(format=form, **made)


def values(weights: ExpertWeights) -> Values:
    """What stored weights stand for, FP64."""

    def stack(w: Tensor, s: Tensor | None) -> Tensor:
        assert s is not None
        if weights.format == "fp4":
            return torch.stack([fp4_unpack(*pair) for pair in zip(w, s, strict=True)]).double()
        pairs = zip(w.view(torch.float8_e4m3fn), s, strict=True)
        return torch.stack([fp8_dequantize_blocks(*pair) for pair in pairs]).double()

    return stack(weights.w1, weights.s1), stack(weights.w3, weights.s3), stack(weights.w2, weights.s2)


def stored(hidden: Tensor, dtype: torch.dtype) -> Tensor:
    """Hidden vectors as they lie in memory; the interpreter cuts to BF16 where a GPU rounds."""
    if DEVICE == "cpu" and dtype == torch.bfloat16:
        hidden = (hidden.float().view(torch.int32) & -0x10000).view(torch.float32)
    return hidden.to(dtype)


def wanted(x: Tensor, stacks: Values, chosen: Tensor, share: Tensor, limit: float | None) -> Tensor:
    """The reference in FP64 with activations and hidden vectors rounded; entries below zero count for nothing."""
    return ref.experts(
        simulate_fp8(x, 128).double(), *stacks, chosen=chosen.clamp_min(0).long(),
        weights=share.double() * (chosen >= 0), limit=limit,
        round_hidden=lambda hidden: simulate_fp8(stored(hidden, x.dtype)[None], 128)[0].double(),
    )  # fmt: skip


def off(got: Tensor, right: Tensor) -> float:
    return float((got.double() - right).norm() / right.norm())


@pytest.mark.parametrize("form", ["fp8", "fp4"])
@pytest.mark.parametrize(("T", "dtype"), [(1, torch.int32), (40, torch.int64)])
def test_both_formats_equal_the_reference(form: ExpertFormat, T: int, dtype: torch.dtype) -> None:
    weights = drawn(form, 5, 128, 256)
    x, share = torch.randn(T, 256, device=DEVICE) * 3, torch.rand(T, 3, device=DEVICE)
    chosen = torch.rand(T, 5, device=DEVICE).topk(3).indices
    got = experts_fp8(x, weights, chosen.to(dtype), share, limit=1.0)
    right = wanted(x, values(weights), chosen, share, 1.0)
    assert off(got, right) < CLOSE
    # The rounding is there, and so are both clamps.
    assert (
        off(right, ref.experts(x.double(), *values(weights), chosen=chosen, weights=share.double(), limit=1.0)) > 0.01
    )
    assert off(right, wanted(x, values(weights), chosen, share, None)) > 0.01
    assert torch.equal(got, experts_fp8(x, weights, chosen, share, limit=1.0))


@pytest.mark.parametrize("tiles", [Tiles(128, 16, 128, 4, 3), Tiles(64, 32, 128, 4, 3)])
def test_repeated_and_missing_experts_fill_tiles_unevenly(tiles: Tiles) -> None:
    weights, T = drawn("fp4", 4, 256, 128), 37
    x, share = torch.randn(T, 128, device=DEVICE), torch.rand(T, 3, device=DEVICE)
    chosen = torch.randint(-1, 2, (T, 3), device=DEVICE)  # two experts have no pair
    chosen[0], chosen[1], chosen[2, 0] = -1, torch.tensor([1, 1, -1]), 3
    got = experts_fp8(x, weights, chosen, share, limit=None, tiles=tiles)
    assert (got[0] == 0).all()
    assert off(got, wanted(x, values(weights), chosen, share, None)) < CLOSE


@pytest.mark.parametrize("form", ["fp8", "fp4"])
def test_shared_expert_joins(form: ExpertFormat) -> None:
    weights, shared, T = drawn("fp4", 3, 128, 128), drawn(form, 1, 256, 128), 20
    x, share = torch.randn(T, 128, device=DEVICE), torch.rand(T, 2, device=DEVICE)
    chosen = torch.randint(0, 3, (T, 2), device=DEVICE)
    first, one = torch.zeros(T, 1, dtype=torch.int64, device=DEVICE), torch.ones(T, 1, device=DEVICE)
    right = wanted(x, values(weights), chosen, share, 0.7) + wanted(x, values(shared), first, one, 0.7)
    got = experts_fp8(x, weights, chosen, share, limit=0.7, shared=shared)
    assert off(got, right) < CLOSE
    half = experts_fp8(x, weights, chosen, share, limit=0.7, shared=shared, dtype=torch.bfloat16)
    assert half.dtype == torch.bfloat16
    assert off(half, right) < CLOSE + 1e-2


def test_bf16_activations() -> None:
    weights = drawn("fp4", 1, 128, 256)
    x, share = torch.randn(70, 256, device=DEVICE).bfloat16(), torch.rand(70, 1, device=DEVICE)
    chosen = torch.zeros(70, 1, dtype=torch.int64, device=DEVICE)
    assert tiles_for(70, 1).tokens == 64
    got = experts_fp8(x, weights, chosen, share, limit=1.0)
    assert off(got, wanted(x, values(weights), chosen, share, 1.0)) < max(CLOSE, 1e-3)


def test_scales_of_a_row_are_exact_over_2_to_11_and_zero_below() -> None:
    weights = drawn("fp4", 1, 128, 512)
    assert weights.s1 is not None
    below = torch.tensor([0, 1, 5, 11, 12, 13, 30, 2, 11, 12, 3, 4, 0, 100, 10, 9], device=DEVICE)
    spread = (120 - below).to(torch.uint8).expand(1, 128, 16).contiguous()
    weights = replace(weights, s1=spread, s3=spread)
    zeroed = replace(weights, s1=(kept := torch.where(below <= 11, spread, 0)), s3=kept)
    # Channels of the far groups are large, so that they would count if they were read.
    x = torch.randn(16, 512, device=DEVICE) * torch.exp2(below.clamp_max(14).repeat_interleave(32))
    chosen, share = torch.zeros(16, 1, dtype=torch.int64, device=DEVICE), torch.ones(16, 1, device=DEVICE)
    got = experts_fp8(x, weights, chosen, share, limit=None)
    assert off(got, wanted(x, values(zeroed), chosen, share, None)) < CLOSE
    assert off(got, wanted(x, values(weights), chosen, share, None)) > 0.1


def test_scales_at_the_ends_of_their_range() -> None:
    weights = drawn("fp4", 1, 128, 128)
    assert weights.s2 is not None
    low, high = (replace(weights, s2=torch.full_like(weights.s2, size)) for size in (20, 250))
    x, share = torch.randn(4, 128, device=DEVICE), torch.ones(4, 1, device=DEVICE)
    chosen = torch.zeros(4, 1, dtype=torch.int64, device=DEVICE)
    for one in (low, high):
        right = wanted(x, values(one), chosen, share, 1e-4)
        assert off(experts_fp8(x, one, chosen, share, limit=1e-4), right) < CLOSE


def test_row_tops_are_the_largest_scale_bytes() -> None:
    scales = [torch.randint(0, 256, (3, 100, 12), dtype=torch.uint8, device=DEVICE) for _ in range(2)]
    assert torch.equal(row_tops(*scales), torch.stack(scales).amax(3))


def test_nan_of_a_token_stays_in_it_and_nan_of_a_weight_row_spreads() -> None:
    weights, T = drawn("fp4", 2, 128, 128), 20
    x, share = torch.randn(T, 128, device=DEVICE), torch.ones(T, 1, device=DEVICE)
    chosen = torch.zeros(T, 1, dtype=torch.int64, device=DEVICE)
    chosen[5:] = 1
    x[1, 3] = torch.nan
    got = experts_fp8(x, weights, chosen, share, limit=1.0)
    assert got[1].isnan().all()
    assert not got[[t for t in range(T) if t != 1]].isnan().any()
    assert weights.s2 is not None
    sick = weights.s2.clone()
    sick[1, 7, 2] = 255
    got = experts_fp8(x, replace(weights, s2=sick), chosen, share, limit=1.0)
    assert got[5:, 7].isnan().all()
    assert not got[5:, 8:].isnan().any()


def test_no_tokens() -> None:
    none = torch.empty(0, 2, device=DEVICE)
    got = experts_fp8(torch.empty(0, 128, device=DEVICE), drawn("fp8", 2, 128, 128), none.long(), none, limit=1.0)
    assert got.shape == (0, 128)


def test_calls_that_do_not_fit_are_refused() -> None:
    weights, x = drawn("fp4", 2, 128, 128), torch.randn(3, 128, device=DEVICE)
    chosen, share = torch.zeros(3, 1, dtype=torch.int64, device=DEVICE), torch.ones(3, 1, device=DEVICE)
    plain = torch.zeros(1, 128, 128, device=DEVICE)
    dense = ExpertWeights(format="bf16", w1=plain, w3=plain, w2=plain)
    with pytest.raises(ValueError, match="weights are bf16"):
        experts_fp8(x, dense, chosen, share, limit=None)
    with pytest.raises(ValueError, match="shared are bf16"):
        experts_fp8(x, weights, chosen, share, limit=None, shared=dense)
    with pytest.raises(ValueError, match=r"x is \[3, 64\]"):
        experts_fp8(x[:, :64], weights, chosen, share, limit=None)
    for tiles in (Tiles(256, 16, 128, 4, 2), Tiles(96, 16, 128, 4, 2), Tiles(128, 16, 64, 4, 2)):
        with pytest.raises(ValueError, match="16 to 128 rows"):
            experts_fp8(x, weights, chosen, share, limit=None, tiles=tiles)
    for tokens in (8, 48):
        with pytest.raises(ValueError, match="power of two"):
            experts_fp8(x, weights, chosen, share, limit=None, tiles=Tiles(128, tokens, 128, 4, 2))
    with pytest.raises(ValueError, match="gradient"):
        experts_fp8(x.requires_grad_(), weights, chosen, share, limit=None)
