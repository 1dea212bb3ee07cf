"""Norm and rotation of query heads (Flash: 64 heads of 512 channels, 64 of them rotary) with gradients.

Reference: FP64 arithmetic in tiny cases, the plain body in FP32 in full ones. Bytes: rows once each way; backward the
rows and their gradients.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from octavo.bench.case import Case, Work
from octavo.kernels.dispatch import Body, use
from octavo.kernels.rope import inverse_frequencies, ref, rope_table
from octavo.kernels.rope.triton import norm_rotate, rotate

_EPS = 1e-6


def cases() -> list[Case]:
    """Tiny and full cases."""
    tiny: dict[str, Any] = {"dtype": torch.float32, "size": "tiny"}
    flash: dict[str, Any] = {"dtype": torch.bfloat16, "size": "full", "H": 64, "N": 512, "P": 64}
    made = [
        _case("forward", T=5, H=3, N=40, P=16, **tiny),
        _case("training", T=70, H=2, N=24, P=8, **tiny),
        _case("back", T=5, H=3, N=32, P=32, **tiny),
        _case("back training", T=5, H=1, N=24, P=6, **tiny),
    ]
    for T in (1, 64, 4096):
        made += [_case(f"{kind} {T} x 64 x 512", T=T, **flash) for kind in ("forward", "back")]
    return [*made, _case("training 4096 x 64 x 512", T=4096, **flash)]


def _case(
    name: str, *, T: int, H: int, N: int, P: int, dtype: torch.dtype, size: Literal["tiny", "full"]
) -> Case:
    values, trains, back = T * H * N, "training" in name, name.startswith("back")
    run, plain = (
        partial(_gradients if trains else _values, partial(*body))
        for body in (((_turned_back, rotate), (_turned_back, ref.rotate)) if back
                     else ((_normed, norm_rotate), (_normed, ref.norm_rotate)))
    )  # fmt: skip
    return Case(
        op="rope", name=name, inputs=partial(_inputs, T=T, H=H, N=N, P=P, dtype=dtype), run=run, size=size,
        reference=partial(_exactly, plain, torch.float64 if size == "tiny" else torch.float32),
        work=Work(flops=7.0 * values * (3 if trains else 1), bytes=(5 if trains else 2) * values * dtype.itemsize,
                  unit="fp32"),
        tolerance=1e-5 if dtype == torch.float32 else 5e-3, peers={} if size == "tiny" else {"eager": _eager(plain)},
    )  # fmt: skip


def _inputs(device: torch.device, *, T: int, H: int, N: int, P: int, dtype: torch.dtype) -> dict[str, Any]:
    gen = torch.Generator(device).manual_seed(0)
    draw = partial(torch.randn, generator=gen, device=device)
    frequencies = inverse_frequencies(base=10000.0, dims=P)
    cos, sin = rope_table(100_000 + torch.arange(T, device=device), frequencies)
    x, weight, g = draw(T, H, N).to(dtype), draw(N), draw(T, H, N).to(dtype)
    return {"x": x, "weight": weight, "cos": cos.unsqueeze(1), "sin": sin.unsqueeze(1), "g": g}


def _normed(body: Callable[..., Tensor], x: Tensor, weight: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    return body(x, weight, cos, sin, eps=_EPS)


def _turned_back(body: Callable[..., Tensor], x: Tensor, weight: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    return body(x, cos, sin, inverse=True)


def _values(body: Callable[..., Tensor], x: Tensor, weight: Tensor, cos: Tensor, sin: Tensor, g: Tensor) -> Tensor:
    with torch.no_grad():
        return body(x, weight, cos, sin)


def _gradients(
    body: Callable[..., Tensor], x: Tensor, weight: Tensor, cos: Tensor, sin: Tensor, g: Tensor
) -> tuple[Tensor, ...]:
    leaves = [one.detach().requires_grad_() for one in (x, weight)]
    with torch.enable_grad():
        out = body(*leaves, cos, sin)
    grads = torch.autograd.grad(out, leaves, g, allow_unused=True)
    return out.detach(), *(one for one in grads if one is not None)


def _exactly(plain: Callable[..., Any], dtype: torch.dtype, **given: Tensor) -> Any:
    with use(Body.REFERENCE):
        return plain(**{name: value.to(dtype) for name, value in given.items()})


def _eager(plain: Callable[..., Any]) -> Callable[..., Any]:
    def call(**given: Any) -> Any:
        with use(Body.REFERENCE):
            return plain(**given)

    return call
