"""Hyper-connections in Triton: every function and all its gradients against the plain body in FP64, tiles and splits,
BF16, unused results, empty input, wrong input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton")

from octavo.kernels.dispatch import Body, use
from octavo.kernels.hyper import ref, triton, triton_backward, triton_many
from octavo.kernels.hyper.triton import Config, config_of
from octavo.kernels.rmsnorm.ref import rmsnorm

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
OPTIONS: dict[str, Any] = {"iters": 20, "eps": 1e-6, "norm_eps": 1e-6}
HEAD: dict[str, Any] = {"eps": 1e-6, "norm_eps": 1e-6}
Outputs = Tensor | tuple[Tensor, ...]


def plain_enter(streams: Tensor, fn: Tensor, base: Tensor, scale: Tensor, gain: Tensor | None) -> tuple[Tensor, ...]:
    pre, post, comb = ref.mix(streams, fn, base, scale, **OPTIONS)
    return rmsnorm(ref.read(streams, pre), gain, 1e-6), post, comb


def plain_cross(streams: Tensor, y: Tensor, post: Tensor, comb: Tensor, *weights: Tensor) -> tuple[Tensor, ...]:
    after = ref.write(streams, y, post, comb)
    return after, *plain_enter(after, *weights)


def plain_merge(streams: Tensor, fn: Tensor, base: Tensor, scale: Tensor, gain: Tensor) -> Tensor:
    return rmsnorm(ref.merge(streams, fn, base, scale, **HEAD), gain, 1e-6)


def tensors(T: int, M: int, D: int, kind: str) -> list[Tensor]:
    """Inputs of `kind` in order, FP32."""
    N = M if kind == "merge" else M * (2 + M)
    streams = [torch.randn(T, M, D, device=DEVICE)]
    if kind in ("cross", "write"):
        shapes = ((T, D), (T, M), (T, M, M))
        streams += [torch.randn(T, D, device=DEVICE), *(torch.rand(shape, device=DEVICE) for shape in shapes[1:])]
    if kind != "write":
        fn = torch.randn(N, M * D, device=DEVICE) * (M * D) ** -0.5
        scale = torch.rand(1 if kind == "merge" else 3, device=DEVICE) + 0.5
        streams += [fn, torch.randn(N, device=DEVICE), scale, torch.randn(D, device=DEVICE)]
    return streams


BODIES: dict[str, tuple[Callable[..., Outputs], Callable[..., Outputs], Callable[..., Outputs]]] = {
    "enter": (
        lambda *given: triton.enter(*given, **OPTIONS),
        lambda *given: triton_backward.enter(*given, **OPTIONS),
        plain_enter,
    ),
    "cross": (
        lambda *given: triton.cross(*given, **OPTIONS),
        lambda *given: triton_backward.cross(*given, **OPTIONS),
        plain_cross,
    ),
    "merge": (
        lambda *given: triton.merge(*given, **HEAD),
        lambda *given: triton_backward.merge(*given, **HEAD),
        plain_merge,
    ),
    "write": (triton.write, triton_backward.write, ref.write),
}


def exact(body: Callable[..., Outputs], given: list[Tensor]) -> tuple[Tensor, ...]:
    with use(Body.REFERENCE):
        return all_of(body(*[one.double() for one in given]))


def all_of(made: Outputs) -> tuple[Tensor, ...]:
    return (made,) if isinstance(made, Tensor) else made


@pytest.mark.parametrize("kind", list(BODIES))
@pytest.mark.parametrize(("T", "M", "D"), [(1, 4, 40), (5, 2, 200), (3, 1, 16), (67, 4, 24)])
def test_values(kind: str, T: int, M: int, D: int) -> None:
    given = tensors(T, M, D, kind)
    wanted = exact(BODIES[kind][2], given)
    for body in BODIES[kind][:2]:
        for got, want in zip(all_of(body(*given)), wanted, strict=True):
            torch.testing.assert_close(got.double(), want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "config", [Config(16, 16, 1, 4, 1, 1), Config(16, 32, 7, 4, 1, 4), Config(32, 16, 3, 4, 2, 8)]
)
def test_tiles_and_splits_do_not_matter(config: Config) -> None:
    given = tensors(19, 4, 100, "cross")
    wanted = exact(plain_cross, given)
    for got, want in zip(triton.cross(*given, **OPTIONS, config=config), wanted, strict=True):
        torch.testing.assert_close(got.double(), want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("M", [4, 2, 1])
def test_many_tokens_in_bf16(M: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_many, "FROM", 1)
    monkeypatch.setattr(triton_many, "_CROSS", triton_many.Tile(16, 32, 4, 2))
    monkeypatch.setattr(triton_many, "_WRITE", triton_many.Tile(8, 16, 4, 2))
    monkeypatch.setattr(triton_many, "_READ", triton_many.Tile(32, 16, 4, 2))
    given = tensors(19, M, 40, "cross")
    given[0], given[1] = given[0].bfloat16(), given[1].bfloat16()
    after, *made = triton.cross(*given, **OPTIONS)
    step = 2**-8 if DEVICE == "cuda" else 2**-7  # the interpreter cuts the last bits off
    wanted = exact(ref.write, given[:4])[0]
    assert ((after.double() - wanted).abs() <= step * wanted.abs() + 1e-6).all()
    assert torch.equal(after, triton.write(*given[:4]))
    # The coefficients are those of the rounded streams; fn is taken to 2^-17 or, cut, to 2^-15.
    for again in (made, triton.enter(after, *given[4:], **OPTIONS)):
        for got, want in zip(again[1:], exact(plain_enter, [after, *given[4:]])[1:], strict=True):
            torch.testing.assert_close(got.double(), want, rtol=1e-4, atol=1e-4)


def test_streams_that_go_on_bring_their_gradient() -> None:
    given = tensors(6, 4, 24, "enter")
    narrow, wide = [x.clone().requires_grad_() for x in given], [x.double().requires_grad_() for x in given]
    streams, x, post, _ = triton_backward.begin(*narrow, **OPTIONS)
    assert torch.equal(streams, narrow[0])
    got = torch.autograd.grad((streams.square().sum() + x.sum() + post.sum()), narrow)
    with use(Body.REFERENCE):
        x, post, _ = plain_enter(*wide)
    wanted = torch.autograd.grad((wide[0].square().sum() + x.sum() + post.sum()), wide)
    for a, b in zip(got, wanted, strict=True):
        assert (a.double() - b).norm() <= 2e-5 * b.norm()


def test_many_programs_share_one_token() -> None:
    for T in (1, 64, 4096):
        config = config_of(T, 4096)
        assert config.splits * -(-T // config.block_t) >= 128
    assert config_of(1 << 20, 4096).splits == 1


@pytest.mark.parametrize("kind", list(BODIES))
@pytest.mark.parametrize(("T", "M", "D"), [(6, 4, 72), (3, 2, 24), (19, 4, 8)])
def test_gradients(kind: str, T: int, M: int, D: int) -> None:
    check_gradients(kind, tensors(T, M, D, kind))


def test_gradients_where_programs_take_many_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_backward, "_WARPS", 10)
    check_gradients("enter", tensors(140, 2, 8, "enter"))


def check_gradients(kind: str, given: list[Tensor]) -> None:
    narrow, wide = [x.clone().requires_grad_() for x in given], [x.double().requires_grad_() for x in given]
    outs = all_of(BODIES[kind][1](*narrow))
    with use(Body.REFERENCE):
        wanted = all_of(BODIES[kind][2](*wide))
    grads = [torch.randn_like(o) for o in outs]
    got = torch.autograd.grad(outs, narrow, grads)
    for a, b in zip(got, torch.autograd.grad(wanted, wide, [g.double() for g in grads]), strict=True):
        assert a.dtype == torch.float32
        assert (a.double() - b).norm() <= 2e-5 * b.norm()


def test_gradients_of_one_result_alone() -> None:
    given = tensors(4, 4, 24, "cross")
    for place in range(4):
        narrow, wide = [x.clone().requires_grad_() for x in given], [x.double().requires_grad_() for x in given]
        got = torch.autograd.grad(BODIES["cross"][1](*narrow)[place].square().sum(), narrow)
        with use(Body.REFERENCE):
            loss = plain_cross(*wide)[place].square().sum()
        for a, b in zip(got, torch.autograd.grad(loss, wide, allow_unused=True), strict=True):
            want = torch.zeros_like(a).double() if b is None else b
            assert (a.double() - want).norm() <= 2e-5 * want.norm() + 1e-5


def test_merge_without_gain() -> None:
    given = tensors(5, 4, 24, "merge")[:4]
    narrow, wide = [x.clone().requires_grad_() for x in given], [x.double().requires_grad_() for x in given]
    got = triton_backward.merge(*narrow, None, **HEAD)
    with use(Body.REFERENCE):
        wanted = ref.merge(*wide, **HEAD)
    torch.testing.assert_close(got.double(), wanted, rtol=1e-5, atol=1e-5)
    g = torch.randn_like(got)
    for a, b in zip(torch.autograd.grad(got, narrow, g), torch.autograd.grad(wanted, wide, g.double()), strict=True):
        assert (a.double() - b).norm() <= 2e-5 * b.norm()


def test_bf16_streams_round_what_is_written_once() -> None:
    given = tensors(5, 4, 40, "cross")
    given[0], given[1] = given[0].bfloat16(), given[1].bfloat16()
    after, x, post, comb = triton.cross(*given, **OPTIONS)
    assert (after.dtype, x.dtype, post.dtype, comb.dtype) == (torch.bfloat16,) * 2 + (torch.float32,) * 2
    step = 2**-8 if DEVICE == "cuda" else 2**-7  # the interpreter cuts the last bits off
    wanted = exact(ref.write, given[:4])[0]
    assert ((after.double() - wanted).abs() <= step * wanted.abs() + 1e-6).all()
    # The coefficients are those of the rounded streams.
    _, want_post, want_comb = exact(plain_enter, [after, *given[4:]])
    torch.testing.assert_close(post.double(), want_post, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(comb.double(), want_comb, rtol=1e-5, atol=1e-5)


def test_bf16_gradients_come_in_their_tensors_dtypes() -> None:
    given = tensors(5, 4, 40, "cross")
    given[0], given[1] = given[0].bfloat16(), given[1].bfloat16()
    leaves, wide = [x.clone().requires_grad_() for x in given], [x.double().requires_grad_() for x in given]
    outs = triton_backward.cross(*leaves, **OPTIONS)
    got = torch.autograd.grad(sum(o.float().square().sum() for o in outs), leaves)
    assert [g.dtype for g in got] == [x.dtype for x in given]
    with use(Body.REFERENCE):
        wanted = torch.autograd.grad(sum(o.square().sum() for o in plain_cross(*wide)), wide)
    for a, b in zip(got, wanted, strict=True):
        assert (a.double() - b).norm() <= 0.03 * b.norm()


def test_sums_of_comb() -> None:
    _, _, comb = triton.enter(*tensors(20, 4, 16, "enter"), **OPTIONS)
    assert (comb.sum(1) - 1).abs().max() < 1e-5
    assert (comb.sum(2) - 1).abs().max() < 1e-2


@pytest.mark.parametrize("kind", list(BODIES))
def test_no_tokens(kind: str) -> None:
    given = [x.requires_grad_() for x in tensors(0, 4, 16, kind)]
    outs = all_of(BODIES[kind][1](*given))
    assert all(len(o) == 0 for o in outs)
    for x, g in zip(given, torch.autograd.grad(sum(o.sum() for o in outs), given), strict=True):
        assert g.shape == x.shape
        assert not g.any()


def test_wrong_input() -> None:
    streams, *weights = tensors(2, 4, 16, "enter")
    with pytest.raises(ValueError, match="streams are 3 of 16 channels; 1, 2 or 4 of 1 to 16384"):
        triton.enter(streams[:, :3].contiguous(), *weights, **OPTIONS)
    with pytest.raises(ValueError, match="streams is torch.float64 .*bfloat16 or torch.float32 of shape"):
        triton.enter(streams.double(), *weights, **OPTIONS)
    with pytest.raises(ValueError, match=r"fn is torch.float32 \(23, 64\); .* of shape \(24, 64\)"):
        triton.enter(streams, weights[0][:23], *weights[1:], **OPTIONS)
    with pytest.raises(ValueError, match="gain is .* with gaps"):
        triton.enter(streams, *weights[:3], torch.ones(32, device=DEVICE)[::2], **OPTIONS)
    with pytest.raises(ValueError, match=r"y is torch.float32 \(2, 15\)"):
        triton.write(streams, torch.ones(2, 15, device=DEVICE), streams[:, :, 0], streams[:, :, :4])
    y, post = torch.ones(2, 16, device=DEVICE), torch.ones(2, 4, device=DEVICE)
    with pytest.raises(ValueError, match=r"comb is torch.float32 \(2, 4\)"):
        triton.write(streams, y, post, post)
