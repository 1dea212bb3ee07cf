"""Hyper-connections around a sublayer (Flash: 4 streams of 4,096 channels), for steps and for training.

Covers: `enter`, `cross`, `write`, `merge`, and `cross` with its gradients. The reference is the plain body, which is
the eager peer too. Bytes: streams, sublayer outputs and fn once each way; FLOPs: products with fn, reads and writes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from octavo.bench.case import Case, Result, Work, relative_l2
from octavo.kernels.dispatch import Body, use
from octavo.kernels.hyper import ref, triton, triton_backward
from octavo.kernels.rmsnorm.ref import rmsnorm

_OPTIONS: dict[str, Any] = {"iters": 20, "eps": 1e-6, "norm_eps": 1e-6}
_HEAD: dict[str, Any] = {"eps": 1e-6, "norm_eps": 1e-6}
_STRICTER = 50  # coefficients are FP32, streams BF16 in full cases
Size = Literal["tiny", "full"]


def cases() -> list[Case]:
    """Tiny cases of 1, 2 and 4 streams; full ones for an H100."""
    tiny = {"dtype": torch.float32, "size": "tiny"}
    made = [
        _case("begin", T=3, M=4, D=40, **tiny),
        _case("cross", T=18, M=2, D=24, **tiny),
        _case("cross", T=5, M=4, D=72, **tiny),
        _case("write", T=3, M=4, D=40, **tiny),
        _case("merge", T=3, M=1, D=40, **tiny),
        _case("train", T=5, M=4, D=40, **tiny),
    ]
    flash = partial(_case, M=4, D=4096, dtype=torch.bfloat16, size="full")
    for T in (1, 8, 64, 4096):
        made.append(flash("cross", T=T, headline=8 if T in (1, 4096) else None))
        made += [flash(kind, T=T) for kind in ("begin", "write", "merge")]
    made.append(flash("train", T=4096))
    made.append(_case("cross", T=1, M=4, D=4096, dtype=torch.float32, size="full"))
    made.append(_case("train", T=32768, M=4, D=512, dtype=torch.bfloat16, size="full"))
    return made


def _case(kind: str, *, T: int, M: int, D: int, dtype: torch.dtype, size: Size, headline: int | None = None) -> Case:
    body, plain = _BODIES[kind]
    N = M if kind == "merge" else M * (2 + M)
    b = torch.finfo(dtype).bits // 8
    whole, one, weights = b * T * M * D, b * T * D, 4 * N * M * D
    project, read, write = 2 * T * M * D * N, 2 * T * M * D, 2 * T * M * D * (M + 1)
    moved, flops = {
        "begin": (whole + one + weights, project + read),
        "merge": (whole + one + weights, project + read),
        "write": (2 * whole + one, write),
        "cross": (2 * whole + 2 * one + weights, project + read + write),
        # Back: both streams, their gradient given and returned, y, x, and their gradients; fn and its gradient.
        "train": (6 * whole + 6 * one + 3 * weights, 3 * (project + read + write)),
    }[kind]
    exact = dtype == torch.float32
    tolerance = (1e-5 if kind != "train" else 1e-4) if exact else (6e-3 if kind != "train" else 2e-2)
    return Case(
        op="hyper", name=f"{kind}, {T} x {M} x {D} {str(dtype)[6:]}", run=body, reference=plain, headline=headline,
        inputs=partial(_inputs, kind=kind, T=T, M=M, D=D, N=N, dtype=dtype), size=size, tolerance=tolerance,
        work=Work(flops=flops, bytes=moved, unit="fp32"), error=relative_l2 if exact or kind == "train" else _error,
        peers={} if size == "tiny" else {"eager": plain},
    )  # fmt: skip


def _inputs(device: torch.device, *, kind: str, T: int, M: int, D: int, N: int, dtype: torch.dtype) -> dict[str, Any]:
    gen = torch.Generator(device).manual_seed(0)
    draw = partial(torch.randn, generator=gen, device=device)
    made: dict[str, Any] = {"streams": draw(T, M, D).to(dtype)}
    if kind in ("cross", "write", "train"):
        comb = draw(T, M, M).softmax(1)
        made |= {"y": draw(T, D).to(dtype), "post": 2 * draw(T, M).sigmoid(), "comb": comb}
    if kind != "write":
        scale = 0.5 + torch.rand(1 if kind == "merge" else 3, generator=gen, device=device)
        made |= {"fn": draw(N, M * D) * (M * D) ** -0.5, "base": draw(N), "scale": scale, "gain": draw(D)}
    return made


def _error(got: Result, wanted: Result) -> float:
    """Streams and inputs as they are, coefficients in FP32 more strictly."""
    pairs = zip(*((r,) if isinstance(r, Tensor) else r for r in (got, wanted)), strict=True)
    return max(relative_l2(a, b) * (_STRICTER if b.dtype == torch.float32 else 1) for a, b in pairs)


def _plainly(function: Callable[..., Result]) -> Callable[..., Result]:
    """The function with plain operations and without gradients."""

    def call(**given: Tensor) -> Result:
        with use(Body.REFERENCE), torch.no_grad():
            return function(**given)

    return call


def _enter(streams: Tensor, fn: Tensor, base: Tensor, scale: Tensor, gain: Tensor) -> tuple[Tensor, ...]:
    pre, post, comb = ref.mix(streams, fn, base, scale, **_OPTIONS)
    return rmsnorm(ref.read(streams, pre), gain, _OPTIONS["norm_eps"]), post, comb


def _cross(streams: Tensor, y: Tensor, post: Tensor, comb: Tensor, **weights: Tensor) -> tuple[Tensor, ...]:
    after = ref.write(streams, y, post, comb)
    return after, *_enter(after, **weights)


def _merge(streams: Tensor, fn: Tensor, base: Tensor, scale: Tensor, gain: Tensor) -> Tensor:
    return rmsnorm(ref.merge(streams, fn, base, scale, **_HEAD), gain, _HEAD["norm_eps"])


def _gradients(body: Callable[..., tuple[Tensor, ...]], **given: Tensor) -> tuple[Tensor, ...]:
    """Outputs and the gradients of all inputs."""
    leaves = {name: value.detach().requires_grad_() for name, value in given.items()}
    with torch.enable_grad():
        out = body(**leaves)
    gen = torch.Generator(out[0].device).manual_seed(1)
    grads = [torch.randn(o.shape, generator=gen, device=o.device).to(o.dtype) for o in out]
    return *(o.detach() for o in out), *torch.autograd.grad(out, tuple(leaves.values()), grads)


def _plain_gradients(**given: Tensor) -> tuple[Tensor, ...]:
    with use(Body.REFERENCE):
        return _gradients(_cross, **given)


_BODIES: dict[str, tuple[Callable[..., Result], Callable[..., Result]]] = {
    "begin": (partial(triton.enter, **_OPTIONS), _plainly(_enter)),
    "cross": (partial(triton.cross, **_OPTIONS), _plainly(_cross)),
    "write": (triton.write, _plainly(ref.write)),
    "merge": (partial(triton.merge, **_HEAD), _plainly(_merge)),
    "train": (partial(_gradients, partial(triton_backward.cross, **_OPTIONS)), _plain_gradients),
}
