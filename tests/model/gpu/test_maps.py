"""A map of a GPU: dense and FP8 weights, groups, and the decoded weight that products of many tokens take."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("triton")

from octavo.kernels.quant import fp8_dequantize_blocks, fp8_quantize_blocks, simulate_fp8
from octavo.model.gpu.maps import Map

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
TOKENS = (3, 80)  # few, and on a GPU many


def fp8(out: int, width: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    codes, scale = fp8_quantize_blocks(torch.randn(out, width, device=DEVICE))
    return codes.view(torch.uint8), scale, fp8_dequantize_blocks(codes, scale)


@pytest.mark.parametrize("tokens", TOKENS)
def test_dense_and_fp8_weights_give_their_products(tokens: int) -> None:
    x, dense = torch.randn(tokens, 128, device=DEVICE), torch.randn(48, 128, device=DEVICE)
    torch.testing.assert_close(Map(dense)(x), x @ dense.T, rtol=1e-3, atol=1e-3)
    codes, scale, values = fp8(192, 128)
    torch.testing.assert_close(Map(codes, scale)(x), x @ values.T, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("tokens", TOKENS)
def test_groups_read_their_own_inputs(tokens: int) -> None:
    x = torch.randn(tokens, 2, 128, device=DEVICE)
    codes, scale, values = fp8(256, 128)
    wanted = torch.cat([x[:, g] @ values[128 * g : 128 * g + 128].T for g in (0, 1)], dim=1)
    torch.testing.assert_close(Map(codes, scale, groups=2)(x), wanted, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("out", [128, 200])
def test_the_decoded_weight_is_exact_in_bf16(out: int) -> None:
    codes, scale, values = fp8(out, 256)
    assert torch.equal(Map(codes, scale)._decoded(scale, torch.bfloat16).float(), values)


@pytest.mark.skipif(DEVICE == "cpu", reason="products of FP8 activations are taken on a GPU only")
def test_many_tokens_are_rounded_where_the_model_was_trained_so() -> None:
    x = torch.randn(300, 256, device=DEVICE, dtype=torch.bfloat16)
    codes, scale, values = fp8(384, 256)
    wanted = simulate_fp8(x.float(), 128) @ values.T
    torch.testing.assert_close(Map(codes, scale, rounded=True)(x).float(), wanted, rtol=2e-2, atol=2e-1)
