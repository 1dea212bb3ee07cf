"""Experts with stored weights: schedule, formats, few and many tokens, repeats, padding, clamps and NaN, gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton")

from octavo.kernels.experts import ref
from octavo.kernels.experts import triton as kernel
from octavo.kernels.experts.schedule import schedule
from octavo.kernels.experts.triton import experts, tiles_for, tiles_for_few
from octavo.kernels.experts.triton_backward import experts as trained
from octavo.kernels.experts.weights import ExpertFormat, ExpertWeights
from octavo.kernels.linear.packed import Tiles, depends
from octavo.kernels.quant import fp4_pack, fp4_unpack, fp8_dequantize_blocks, fp8_quantize_blocks

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
Values = tuple[Tensor, Tensor, Tensor]


def drawn(form: ExpertFormat, X: int, F: int, D: int) -> tuple[ExpertWeights, Values]:
    """Stored weights and their FP32 values."""
    values = [torch.randn(X, out, n) * n**-0.5 for out, n in ((F, D), (F, D), (D, F))]
    if form == "bf16":
        w1, w3, w2 = (v.to(DEVICE) for v in values)
        return ExpertWeights(format=form, w1=w1, w3=w3, w2=w2), (w1, w3, w2)
    pack, unpack = (fp4_pack, fp4_unpack) if form == "fp4" else (fp8_quantize_blocks, fp8_dequantize_blocks)
    packed = [[pack(v) for v in stack] for stack in values]
    stored = [torch.stack([q.view(torch.uint8) for q, _ in stack]).to(DEVICE) for stack in packed]
    scales = [torch.stack([s for _, s in stack]).to(DEVICE) for stack in packed]
    w1, w3, w2 = (torch.stack([unpack(q, s) for q, s in stack]).to(DEVICE) for stack in packed)
    made = dict(zip(("w1", "w3", "w2", "s1", "s3", "s2"), stored + scales, strict=True))
    return ExpertWeights(format=form, **made), (w1, w3, w2)


def wanted(x: Tensor, values: Values, chosen: Tensor, share: Tensor, limit: float | None) -> Tensor:
    """The reference in FP64; entries below zero count for nothing."""
    real = chosen >= 0
    options: dict[str, Any] = {"chosen": chosen.clamp_min(0).long(), "weights": share.double() * real, "limit": limit}
    return ref.experts(x.double(), *(v.double() for v in values), **options)


def close(got: Tensor, right: Tensor) -> None:
    assert float((got.double() - right).norm() / right.norm()) < 2e-6


def test_schedule_sorts_stably_and_lists_every_pair_once() -> None:
    chosen = torch.tensor([[2, 0], [2, 2], [-1, 4], [0, 2], [4, -1]])
    made = schedule(chosen.to(DEVICE), 6, 2)
    assert made.starts.tolist() == [0, 2, 2, 6, 6, 8, 8]
    assert made.order[:8].tolist() == [1, 6, 0, 2, 3, 7, 5, 8]
    assert made.tiles.shape == (3, 10 // 2 + 6)
    assert made.tiles[:, :4].T.tolist() == [[0, 0, 2], [2, 2, 2], [2, 4, 2], [4, 6, 2]]
    assert (made.tiles[0, 4:] == -1).all()


@pytest.mark.parametrize("pairs", [5000, 1])
def test_schedule_of_many_pairs_and_of_one(pairs: int) -> None:
    chosen = torch.randint(0, 7, (pairs, 1))
    made = schedule(chosen.to(DEVICE), 7, 64)
    assert torch.equal(made.order.cpu().long(), chosen[:, 0].argsort(stable=True))
    counts = torch.bincount(chosen[:, 0], minlength=7)
    assert torch.equal(made.starts.cpu().long().diff(), counts)
    tiles = made.tiles.cpu()[:, made.tiles[0].cpu() >= 0]
    assert torch.equal(torch.zeros(7, dtype=torch.int64).index_add(0, tiles[0].long(), tiles[2].long()), counts)


@pytest.mark.parametrize("form", ["bf16", "fp8", "fp4"])
@pytest.mark.parametrize("T", [1, 7, 40])
def test_every_format_equals_the_reference(form: ExpertFormat, T: int) -> None:
    weights, values = drawn(form, 5, 128, 256)
    x, share = torch.randn(T, 256, device=DEVICE) * 3, torch.rand(T, 3, device=DEVICE)
    chosen = torch.rand(T, 5, device=DEVICE).topk(3).indices
    got = experts(x, weights, chosen.int(), share, limit=1.0)
    close(got, wanted(x, values, chosen, share, 1.0))
    assert torch.equal(got, experts(x, weights, chosen, share, limit=1.0))


@pytest.mark.parametrize("T", [3, 33])
def test_repeated_and_missing_experts(T: int) -> None:
    weights, values = drawn("fp4", 3, 128, 128)
    x, share = torch.randn(T, 128, device=DEVICE), torch.rand(T, 4, device=DEVICE)
    chosen = torch.randint(-1, 2, (T, 4), device=DEVICE)
    chosen[0], chosen[1], chosen[2, :] = -1, torch.tensor([1, 1, 1, -1]), 2
    got = experts(x, weights, chosen, share, limit=None)
    assert (got[0] == 0).all()
    close(got, wanted(x, values, chosen, share, None))


def test_more_pairs_of_one_expert_than_a_tile_holds_among_few_tokens() -> None:
    weights, values = drawn("bf16", 2, 32, 48)
    x, share = torch.randn(16, 48, device=DEVICE), torch.rand(16, 3, device=DEVICE)
    chosen = torch.ones(16, 3, dtype=torch.int64, device=DEVICE)
    got = experts(x, weights, chosen, share, limit=2.0, tiles=Tiles(64, 16, 16, 4, 2))
    close(got, wanted(x, values, chosen, share, 2.0))


@pytest.mark.parametrize(("rows", "tokens", "width"), [(64, 8, 128), (32, 16, 128), (64, 16, 256)])
def test_few_pairs_in_tiles_of_other_sizes(rows: int, tokens: int, width: int) -> None:
    weights, values = drawn("fp4", 3, 256, 256)
    x, share = torch.randn(2, 256, device=DEVICE), torch.rand(2, 2, device=DEVICE)
    chosen = torch.tensor([[2, 0], [2, 1]], device=DEVICE)
    got = experts(x, weights, chosen, share, limit=1.0, tiles=Tiles(rows, tokens, width, 4, 2))
    close(got, wanted(x, values, chosen, share, 1.0))


def test_sizes_for_few_pairs_fit_the_widths() -> None:
    assert tiles_for_few(6, 128, 384, form="fp4", experts=8).width == 128
    assert tiles_for_few(12, 4096, 2048, form="fp4", experts=8).rows == 64  # few programs: more of them, each smaller
    assert tiles_for_few(24, 4096, 2048, form="fp4", experts=8).rows == 128
    assert tiles_for_few(6, 4096, 2048, form="fp8", experts=8) == tiles_for(6, 8, 4096, 2048, form="fp8")


@pytest.mark.skipif(not depends(torch.device(DEVICE)), reason="needs a GPU of compute capability 9.0")
@pytest.mark.parametrize("T", [1, 4, 16])
def test_kernels_that_begin_early_give_the_same_bits(T: int, monkeypatch: pytest.MonkeyPatch) -> None:
    weights, _ = drawn("fp4", 9, 512, 1024)
    shared, _ = drawn("fp8", 1, 256, 1024)
    x, share = torch.randn(T, 1024, device=DEVICE).bfloat16(), torch.rand(T, 6, device=DEVICE)
    chosen = torch.rand(T, 9, device=DEVICE).topk(6).indices
    for both in (None, shared):
        made = []
        for ahead in (False, True, True):
            monkeypatch.setattr(kernel, "AHEAD", ahead)
            made.append(experts(x, weights, chosen, share, limit=1.0, shared=both))
        assert torch.equal(made[0], made[1])
        assert torch.equal(made[0], made[2])


@pytest.mark.parametrize("T", [2, 20])
@pytest.mark.parametrize("form", ["bf16", "fp8"])
def test_shared_expert_of_another_format(T: int, form: ExpertFormat) -> None:
    weights, values = drawn("fp4", 3, 128, 128)
    shared, own = drawn(form, 1, 256, 128)
    x, share = torch.randn(T, 128, device=DEVICE), torch.rand(T, 2, device=DEVICE)
    chosen = torch.randint(0, 3, (T, 2), device=DEVICE)
    first, one = torch.zeros(T, 1, dtype=torch.int64, device=DEVICE), torch.ones(T, 1, device=DEVICE)
    right = wanted(x, values, chosen, share, 0.7) + wanted(x, own, first, one, 0.7)
    got = experts(x, weights, chosen, share, limit=0.7, shared=shared)
    close(got, right)
    half = experts(x, weights, chosen, share, limit=0.7, shared=shared, dtype=torch.bfloat16)
    assert torch.equal(half, got.bfloat16()) or DEVICE == "cpu"  # the interpreter cuts where a GPU rounds
    assert half.dtype == torch.bfloat16


def test_bf16_activations_of_many_tokens_are_read_in_packed_order() -> None:
    weights, values = drawn("fp4", 1, 128, 256)
    x, share = torch.randn(70, 256, device=DEVICE).bfloat16(), torch.rand(70, 1, device=DEVICE)
    chosen = torch.zeros(70, 1, dtype=torch.int64, device=DEVICE)
    assert tiles_for(70, 1, 256, 128, form="fp4").tokens == 128
    got, right = experts(x, weights, chosen, share, limit=1.0), wanted(x, values, chosen, share, 1.0)
    assert float((got.double() - right).norm() / right.norm()) < 1e-2


@pytest.mark.parametrize("T", [2, 20])
def test_nan_stays_in_its_token_and_is_not_clamped_away(T: int) -> None:
    weights, _ = drawn("bf16", 2, 32, 48)
    x = torch.randn(T, 48, device=DEVICE)
    x[1, 3] = torch.nan
    chosen = torch.zeros(T, 1, dtype=torch.int64, device=DEVICE)
    got = experts(x, weights, chosen, torch.ones(T, 1, device=DEVICE), limit=1.0)
    assert got[1].isnan().all()
    assert not got[[t for t in range(T) if t != 1]].isnan().any()


@pytest.mark.parametrize("limit", [None, 0.8])
def test_gradients_equal_those_of_the_reference(limit: float | None) -> None:
    X, F, D, A, T = 4, 48, 32, 2, 9
    chosen = torch.randint(0, X - 1, (T, A), device=DEVICE)  # the last expert gets no token
    chosen[0] = 1
    start = (torch.randn(T, D) * 2, *drawn("bf16", X, F, D)[1], torch.rand(T, A))
    grad = torch.randn(T, D)

    def step(call: Callable[..., Tensor], dtype: torch.dtype) -> list[Tensor]:
        leaves = [t.to(DEVICE, dtype).requires_grad_() for t in start]
        out = call(*leaves)
        return [out.detach(), *torch.autograd.grad(out, leaves, grad.to(DEVICE, out.dtype))]

    def ours(x: Tensor, w1: Tensor, w3: Tensor, w2: Tensor, share: Tensor) -> Tensor:
        return trained(x, w1, w3, w2, chosen=chosen, share=share, limit=limit)

    def reference(x: Tensor, w1: Tensor, w3: Tensor, w2: Tensor, share: Tensor) -> Tensor:
        return ref.experts(x, w1, w3, w2, chosen=chosen, weights=share, limit=limit)

    got, right = step(ours, torch.float32), step(reference, torch.float64)
    for mine, true in zip(got, right, strict=True):
        close(mine, true)
    assert (got[2][X - 1] == 0).all()


@pytest.mark.parametrize("limit", [None, 0.8])
def test_gradients_with_a_shared_expert(limit: float | None) -> None:
    X, F, S, D, A, T = 3, 32, 48, 32, 2, 7
    chosen = torch.randint(0, X, (T, A), device=DEVICE)
    w1, w3, w2 = drawn("bf16", X, F, D)[1]
    s1, s3, s2 = [one[0] for one in drawn("bf16", 1, S, D)[1]]
    start = [torch.randn(T, D, device=DEVICE) * 2, w1, w3, w2, torch.rand(T, A, device=DEVICE), s1, s3, s2]
    grad = torch.randn(T, D, device=DEVICE)

    def ours(x: Tensor, w1: Tensor, w3: Tensor, w2: Tensor, share: Tensor, *own: Tensor) -> Tensor:
        both = torch.cat(own[:2]), own[2]
        return trained(x, w1, w3, w2, chosen=chosen, share=share, limit=limit, shared=both)

    def reference(x: Tensor, w1: Tensor, w3: Tensor, w2: Tensor, share: Tensor, *own: Tensor) -> Tensor:
        routed = ref.experts(x, w1, w3, w2, chosen=chosen, weights=share, limit=limit)
        return routed + ref.swiglu(x @ own[0].T, x @ own[1].T, limit) @ own[2].T

    found = []
    for call, dtype in ((ours, torch.float32), (reference, torch.float64)):
        leaves = [t.to(dtype).requires_grad_() for t in start]
        out = call(*leaves)
        found.append([out.detach(), *torch.autograd.grad(out, leaves, grad.to(dtype))])
    for mine, true in zip(*found, strict=True):
        assert float((mine.double() - true).norm() / true.norm()) < 1e-5


def test_gradients_leave_out_missing_experts() -> None:
    x, weights = torch.randn(3, 32, device=DEVICE).requires_grad_(), drawn("bf16", 2, 16, 32)[0]
    share = torch.rand(3, 2, device=DEVICE).requires_grad_()
    chosen = torch.tensor([[0, -1], [-1, -1], [1, 1]], device=DEVICE)
    leaves = (weights.w1, weights.w3, weights.w2)
    trained(x, *leaves, chosen=chosen, share=share, limit=None).sum().backward()
    assert x.grad is not None
    assert share.grad is not None
    assert (x.grad[1] == 0).all()
    assert (x.grad[0] != 0).any()
    assert torch.equal(share.grad == 0, chosen < 0)


def test_no_tokens() -> None:
    weights, _ = drawn("fp8", 2, 128, 128)
    none = torch.empty(0, 2, device=DEVICE)
    assert experts(torch.empty(0, 128, device=DEVICE), weights, none.long(), none, limit=1.0).shape == (0, 128)


def test_weights_that_do_not_fit_are_refused() -> None:
    w1, w2 = torch.zeros(2, 128, 64, dtype=torch.uint8), torch.zeros(2, 128, 64, dtype=torch.uint8)
    s = torch.zeros(2, 128, 4, dtype=torch.uint8)
    made = {"w1": w1, "w3": w1, "w2": w2, "s1": s, "s3": s, "s2": s}
    assert ExpertWeights(format="fp4", **made).shape == (2, 128, 128)
    with pytest.raises(ValueError, match="format is 'fp3'"):
        ExpertWeights(format="fp3", **made)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="s3 is None"):
        ExpertWeights(format="fp4", **{**made, "s3": None})
    with pytest.raises(ValueError, match="s2 is"):
        ExpertWeights(format="fp4", **{**made, "s2": s[:, :, :2]})
    with pytest.raises(ValueError, match="w3 is"):
        ExpertWeights(format="fp4", **{**made, "w3": w1[:, :64]})
    with pytest.raises(ValueError, match="needs multiples of 128"):
        ExpertWeights(format="fp8", **{**made, "w2": w2[:, :64]})
    with pytest.raises(ValueError, match="no scales"):
        ExpertWeights(format="bf16", w1=w1.float(), w3=w1.float(), w2=w1.mT.float().contiguous(), s1=s, s3=s, s2=s)
    with pytest.raises(ValueError, match="w2 is torch.bfloat16"):
        ExpertWeights(format="bf16", w1=w1.float(), w3=w1.float(), w2=w1.mT.bfloat16().contiguous())


def test_calls_that_do_not_fit_are_refused() -> None:
    weights, _ = drawn("bf16", 2, 32, 48)
    x, chosen = torch.randn(3, 48, device=DEVICE), torch.zeros(3, 1, dtype=torch.int64, device=DEVICE)
    share = torch.ones(3, 1, device=DEVICE)
    with pytest.raises(ValueError, match=r"x is \[3, 32\]"):
        experts(x[:, :32], weights, chosen, share, limit=None)
    with pytest.raises(ValueError, match="chosen is"):
        experts(x, weights, chosen[:2], share, limit=None)
    with pytest.raises(ValueError, match="share is"):
        experts(x, weights, chosen, share[:, :0], limit=None)
    with pytest.raises(ValueError, match="weights are"):
        experts(x.bfloat16(), weights, chosen, share, limit=None)
    with pytest.raises(ValueError, match="shared is 2 experts"):
        experts(x, weights, chosen, share, limit=None, shared=weights)
    with pytest.raises(ValueError, match="gradient"):
        experts(x.requires_grad_(), weights, chosen, share, limit=None)
