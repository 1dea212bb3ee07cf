"""RMS norm of hidden rows (Flash: 4,096 channels) and its gradients.

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
from octavo.kernels.rmsnorm import ref
from octavo.kernels.rmsnorm.triton import rmsnorm

_EPS = 1e-6


def cases() -> list[Case]:
    """Tiny and full cases."""
    tiny = {"dtype": torch.float32, "size": "tiny"}
    made = [
        _case("forward", (5, 24), (24,), **tiny),
        _case("forward without weight", (3, 4, 16), None, **tiny),
        _case("training", (70, 40), (40,), **tiny),
        _case("training by stream", (9, 2, 24), (2, 24), **tiny),
    ]
    for T in (1, 64, 4096):
        made.append(_case(f"forward {T} x 4096", (T, 4096), (4096,), dtype=torch.bfloat16, size="full"))
    made.append(_case("training 4096 x 4096", (4096, 4096), (4096,), dtype=torch.bfloat16, size="full"))
    return made


def _case(
    name: str, shape: tuple[int, ...], weight: tuple[int, ...] | None, *, dtype: torch.dtype,
    size: Literal["tiny", "full"],
) -> Case:  # fmt: skip
    values = torch.Size(shape).numel()
    trains = name.startswith("training")
    passes = 5 if trains else 2
    run, plain = (partial(_gradients if trains else _values, body) for body in (rmsnorm, ref.rmsnorm))
    return Case(
        op="rmsnorm", name=name, inputs=partial(_inputs, shape=shape, weight=weight, dtype=dtype), run=run, size=size,
        reference=partial(_exactly, plain, torch.float64 if size == "tiny" else torch.float32),
        work=Work(flops=4.0 * values * (3 if trains else 1), bytes=passes * values * dtype.itemsize, unit="fp32"),
        tolerance=1e-5 if dtype == torch.float32 else 5e-3, peers={} if size == "tiny" else {"eager": _eager(plain)},
    )  # fmt: skip


def _inputs(
    device: torch.device, *, shape: tuple[int, ...], weight: tuple[int, ...] | None, dtype: torch.dtype
) -> dict[str, Any]:
    gen = torch.Generator(device).manual_seed(0)
    draw = partial(torch.randn, generator=gen, device=device)
    x = draw(shape).to(dtype)
    return {"x": x, "weight": None if weight is None else draw(weight), "g": draw(shape).to(dtype)}


def _values(body: Callable[..., Tensor], x: Tensor, weight: Tensor | None, g: Tensor) -> Tensor:
    with torch.no_grad():
        return body(x, weight, _EPS)


def _gradients(body: Callable[..., Tensor], x: Tensor, weight: Tensor | None, g: Tensor) -> tuple[Tensor, ...]:
    leaves = [one.detach().requires_grad_() for one in (x, weight) if one is not None]
    with torch.enable_grad():
        out = body(leaves[0], None if weight is None else leaves[1], _EPS)
    return out.detach(), *torch.autograd.grad(out, leaves, g)


def _exactly(
    plain: Callable[..., Any], dtype: torch.dtype, x: Tensor, weight: Tensor | None, g: Tensor
) -> Any:
    with use(Body.REFERENCE):
        return plain(x.to(dtype), None if weight is None else weight.to(dtype), g.to(dtype))


def _eager(plain: Callable[..., Any]) -> Callable[..., Any]:
    def call(**given: Any) -> Any:
        with use(Body.REFERENCE):
            return plain(**given)

    return call
