"""Products with stored weights: every code, packed order, groups, splits, odd sizes, NaN, FP8 activations, refusals."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton")

import triton
import triton.language as tl

from octavo.kernels.linear.packed import Tiles, decode, ordered_sum, pack, place
from octavo.kernels.linear.triton import grouped_linear, linear
from octavo.kernels.linear.triton_fp8 import linear_fp8, round_activations
from octavo.kernels.quant import (
    fp4_unpack,
    fp8_dequantize_blocks,
    fp8_quantize_blocks,
    scale_values,
    simulate_fp8,
)

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
DTYPE = torch.bfloat16 if DEVICE == "cuda" else torch.float32
CLOSE = {"rtol": 0.0, "atol": 1e-3} if DEVICE == "cuda" else {"rtol": 0.0, "atol": 1e-4}


@triton.jit
def _decoded(words, scales, out, ROWS: tl.constexpr, FORMAT: tl.constexpr, WORDS: tl.constexpr, SCALES: tl.constexpr,
             WIDE: tl.constexpr):  # fmt: skip
    row, inner = tl.arange(0, ROWS)[:, None], tl.arange(0, 128)
    word = tl.load(words + row * WORDS + tl.arange(0, WORDS)[None, :]).to(tl.uint32, bitcast=True)
    scale = tl.load(scales + row * SCALES + tl.arange(0, SCALES)[None, :])
    values = decode(word, scale, ROWS, 128, FORMAT, WIDE)
    tl.store(out + row * 128 + place(inner)[None, :], values.to(tl.float32) * 18446744073709551616.0)


@pytest.mark.parametrize("exponent", [70, 119, 127, 180])
def test_every_code_of_fp4_is_exact(exponent: int) -> None:
    codes = torch.arange(256).repeat(4).view(16, 64).to(torch.uint8)
    scale = torch.full((16, 4), exponent, dtype=torch.uint8) + torch.arange(4, dtype=torch.uint8)
    out = torch.empty(16, 128, device=DEVICE)
    _decoded[(1,)](codes.view(torch.int32).to(DEVICE), scale.to(DEVICE), out, 16, "fp4", 16, 4, DEVICE == "cpu")
    assert torch.equal(out.cpu(), fp4_unpack(codes, scale))


@pytest.mark.parametrize("exponent", [75, 114, 127, 180])
def test_every_code_of_fp8_but_nan_is_exact(exponent: int) -> None:
    codes = torch.arange(256).repeat(8).view(16, 128).to(torch.uint8)
    codes.masked_fill_((codes & 0x7F) == 0x7F, 0)
    scale = torch.full((16, 1), exponent, dtype=torch.uint8)
    out = torch.empty(16, 128, device=DEVICE)
    _decoded[(1,)](codes.view(torch.int32).to(DEVICE), scale.to(DEVICE), out, 16, "fp8", 32, 1, DEVICE == "cpu")
    assert torch.equal(out.cpu(), codes.view(torch.float8_e4m3fn).float() * scale_values(scale))


@pytest.mark.parametrize("form", ["fp4", "fp8"])
def test_a_scale_of_nan_makes_every_value_nan(form: str) -> None:
    codes = torch.full((16, 64 if form == "fp4" else 128), 0x11, dtype=torch.uint8)
    scale = torch.full((16, 4 if form == "fp4" else 1), 255, dtype=torch.uint8)
    out = torch.empty(16, 128, device=DEVICE)
    _decoded[(1,)](
        codes.view(torch.int32).to(DEVICE), scale.to(DEVICE), out, 16, form, codes.shape[1] // 4, scale.shape[1],
        DEVICE == "cpu",
    )  # fmt: skip
    assert out.isnan().all()


def test_packed_order_puts_two_neighbours_of_four_runs_together() -> None:
    packed = pack(torch.arange(256, dtype=torch.float32, device=DEVICE)[None])[0].cpu()
    assert packed[:10].tolist() == [0, 1, 32, 33, 64, 65, 96, 97, 2, 3]
    assert packed[128:].tolist() == (packed[:128] + 128).tolist()
    assert sorted(packed.tolist()) == list(range(256))


def fp8(O: int, N: int) -> tuple[Tensor, Tensor, Tensor]:
    """Codes, scales and values of a random weight."""
    codes, scale = fp8_quantize_blocks(torch.randn(O, N) * torch.logspace(-2, 0, O)[:, None] * N**-0.5)
    return codes.view(torch.uint8).to(DEVICE), scale.to(DEVICE), fp8_dequantize_blocks(codes, scale).to(DEVICE)


@pytest.mark.parametrize(("T", "O", "N"), [(1, 64, 128), (5, 200, 512), (17, 130, 128), (66, 96, 256)])
def test_fp8_weights_equal_their_decoded_values(T: int, O: int, N: int) -> None:
    codes, scale, values = fp8(O, N)
    x = torch.randn(T, N, device=DEVICE).to(DTYPE)
    got = linear(x, codes, scale, dtype=torch.float32)
    torch.testing.assert_close(got, x.float() @ values.T, **CLOSE)
    assert torch.equal(got, linear(x, codes.view(torch.float8_e4m3fn), scale, dtype=torch.float32))


def test_bf16_activations_in_the_interpreter_and_results_in_their_type() -> None:
    codes, scale, values = fp8(64, 128)
    x = torch.randn(2, 3, 128, device=DEVICE).bfloat16()
    got = linear(x, codes, scale)
    assert (got.dtype, got.shape) == (torch.bfloat16, (2, 3, 64))
    torch.testing.assert_close(got.float(), x.float() @ values.T, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize(("T", "O", "N"), [(1, 24, 48), (4, 300, 64), (70, 33, 128)])
def test_dense_weights(T: int, O: int, N: int) -> None:
    x, weight = torch.randn(T, N, device=DEVICE).to(DTYPE), (torch.randn(O, N, device=DEVICE) * N**-0.5).to(DTYPE)
    torch.testing.assert_close(linear(x, weight, dtype=torch.float32), x.float() @ weight.float().T, **CLOSE)


@pytest.mark.parametrize("T", [2, 70])
def test_groups_read_their_own_inputs(T: int) -> None:
    codes, scale, values = fp8(256, 128)
    x = torch.randn(T, 2, 128, device=DEVICE).to(DTYPE)
    wanted = torch.einsum("tgn,grn->tgr", x.float(), values.view(2, 128, 128)).flatten(1)
    torch.testing.assert_close(grouped_linear(x, codes, scale, dtype=torch.float32), wanted, **CLOSE)


def test_a_split_product_is_the_same_every_time_and_for_every_number_of_tokens() -> None:
    codes, scale, _ = fp8(64, 1024)
    x = torch.randn(4, 1024, device=DEVICE).to(DTYPE)
    whole = linear(x, codes, scale, dtype=torch.float32)
    assert torch.equal(whole, linear(x, codes, scale, dtype=torch.float32))
    assert torch.equal(whole[1:2], linear(x[1:2], codes, scale, dtype=torch.float32))
    one = linear(x, codes, scale, dtype=torch.float32, tiles=Tiles(64, 16, 1024, 4, 2))
    torch.testing.assert_close(whole, one, **CLOSE)


def test_ordered_sum_leaves_out_what_was_not_chosen() -> None:
    parts = torch.randn(3, 4, 40, device=DEVICE)
    chosen = torch.tensor([[0, 1, 2, 3], [-1, 5, -1, 0], [-1, -1, -1, -1]], device=DEVICE)
    more = torch.randn(3, 40, device=DEVICE)
    broken = parts.masked_fill((chosen < 0)[:, :, None], torch.nan)
    wanted = parts.masked_fill((chosen < 0)[:, :, None], 0.0).sum(1)
    torch.testing.assert_close(ordered_sum(broken, torch.float32, chosen=chosen), wanted)
    torch.testing.assert_close(ordered_sum(broken, torch.float32, chosen=chosen, more=more), wanted + more)


def test_activations_are_rounded_as_in_the_simulation() -> None:
    x = torch.randn(9, 256) * torch.logspace(-9, 5, 9)[:, None]
    x[3, 5], x[4, 0], x[5] = torch.nan, torch.inf, 0.0
    codes, scale = (t.cpu() for t in round_activations(x.to(DEVICE)))
    values = codes.view(torch.float8_e4m3fn).float().view(9, 2, 128) * scale_values(scale)[..., None]
    torch.testing.assert_close(values.view(9, 256), simulate_fp8(x, 128), rtol=0, atol=0, equal_nan=True)


def test_fp8_activations() -> None:
    codes, scale, values = fp8(200, 256)
    x = torch.randn(5, 256, device=DEVICE)
    got = linear_fp8(x, codes, scale)
    torch.testing.assert_close(got, simulate_fp8(x, 128) @ values.T, **CLOSE)
    assert 1e-3 < (got - x @ values.T).norm() / got.norm() < 5e-2


def test_nothing_in_nothing_out() -> None:
    codes, scale, _ = fp8(64, 128)
    assert linear(torch.empty(0, 128, device=DEVICE), codes, scale).shape == (0, 64)
    assert linear_fp8(torch.empty(0, 128, device=DEVICE), codes, scale).shape == (0, 64)


def test_wrong_input_is_refused() -> None:
    codes, scale, _ = fp8(64, 128)
    x = torch.randn(2, 128, device=DEVICE)
    with pytest.raises(ValueError, match="weight is"):
        linear(x[:, :64], codes, scale)
    with pytest.raises(ValueError, match="scale is"):
        linear(x, codes, scale[:, :0])
    with pytest.raises(ValueError, match="multiple of 128"):
        linear(x[:, :64], codes[:, :64].contiguous(), scale)
    with pytest.raises(ValueError, match="weight is torch.float16"):
        linear(x, torch.zeros(4, 128, dtype=torch.float16, device=DEVICE))
    with pytest.raises(ValueError, match="not contiguous"):
        linear(x, torch.zeros(128, 4, device=DEVICE).T)
    with pytest.raises(ValueError, match="rows a group"):
        grouped_linear(torch.randn(2, 8, 128, device=DEVICE), codes, scale)
    with pytest.raises(ValueError, match="gradient"):
        linear(x.requires_grad_(), codes, scale)
