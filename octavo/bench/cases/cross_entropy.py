"""Loss of a vocabulary with the gradients of rows and head (Flash: 129,280 tokens, 4,096 channels).

The reference keeps all logits in FP32. FLOPs: the product with the head and those of both gradients; bytes: rows, head
and their gradients.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from octavo.bench.case import Case, Work
from octavo.kernels.cross_entropy import ref
from octavo.kernels.cross_entropy.triton import cross_entropy
from octavo.kernels.dispatch import Body, use


def cases() -> list[Case]:
    """Tiny and full cases."""
    full: dict[str, Any] = {"dtype": torch.bfloat16, "size": "full", "chunk": None}
    return [
        _case("one chunk", R=7, D=16, V=300, chunk=None, dtype=torch.float32, size="tiny"),
        _case("chunks", R=11, D=8, V=5000, chunk=4, dtype=torch.float32, size="tiny"),
        _case("4096 rows, Flash", R=4096, D=4096, V=129280, **full),
        _case("16384 rows of 512, 8192 tokens", R=16384, D=512, V=8192, **full),
    ]


def _case(
    name: str, *, R: int, D: int, V: int, chunk: int | None, dtype: torch.dtype, size: Literal["tiny", "full"]
) -> Case:
    width = dtype.itemsize
    return Case(
        op="cross_entropy", name=name, inputs=partial(_inputs, R=R, D=D, V=V, dtype=dtype), size=size,
        run=partial(_gradients, partial(cross_entropy, chunk=chunk)), reference=_exact,
        work=Work(flops=6.0 * R * D * V, bytes=(2 * width * R + (width + 4) * V) * D),
        tolerance=1e-4 if dtype == torch.float32 else 2e-2, peers={} if size == "tiny" else {"eager": _eager},
    )  # fmt: skip


def _inputs(device: torch.device, *, R: int, D: int, V: int, dtype: torch.dtype) -> dict[str, Any]:
    gen = torch.Generator(device).manual_seed(0)
    x = torch.randn(R, D, generator=gen, device=device).to(dtype)
    head = (torch.randn(V, D, generator=gen, device=device) * D**-0.5).to(dtype)
    targets = torch.randint(V, (R,), generator=gen, device=device)
    return {"x": x, "head": head, "targets": targets, "weights": torch.rand(R, generator=gen, device=device) / R}


def _gradients(body: Callable[..., tuple[Tensor, Tensor]], x: Tensor, head: Tensor, **given: Tensor) -> Any:
    """The loss and the gradients of rows and head."""
    leaves = [one.detach().requires_grad_() for one in (x, head)]
    with torch.enable_grad():
        loss, _ = body(*leaves, **given)
    return loss.detach(), *torch.autograd.grad(loss, leaves)


def _exact(x: Tensor, head: Tensor, **given: Tensor) -> Any:
    return _gradients(_whole, x.float(), head.float(), **given)


def _whole(x: Tensor, head: Tensor, targets: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    loss = F.cross_entropy(x @ head.T, targets, reduction="none")
    return (loss * weights).sum(), targets


def _eager(**given: Tensor) -> Any:
    with use(Body.REFERENCE):
        return _gradients(ref.cross_entropy, **given)
