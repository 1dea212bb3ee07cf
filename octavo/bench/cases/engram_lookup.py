"""Engram's rows and gate (24 rows of 256 values for each token, 4 streams of 4,096 channels), with gradients.

Addresses are compared bit by bit, rows exactly; the gate's reference is the plain body in FP32. Bytes: rows read and
written, addresses written; streams and keys once each way.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from octavo.bench.case import Case, Work
from octavo.kernels.dispatch import Body, use
from octavo.kernels.engram_lookup import hashing, ref
from octavo.kernels.engram_lookup.hashing import HashPlan, plan_hash
from octavo.kernels.engram_lookup.triton import gate, lookup

_EPS = 1e-6
Size = Literal["tiny", "full"]


def cases() -> list[Case]:
    """Tiny and full cases."""
    tiny: dict[str, Any] = {"dtype": torch.float32, "size": "tiny"}
    full: dict[str, Any] = {"dtype": torch.bfloat16, "size": "full"}
    made = [
        _rows("rows", T=5, heads=3, orders=2, d=12, first=101, **tiny),
        _gates("gate", T=5, M=2, D=24, **tiny),
        _gates("gate, training", T=9, M=4, D=24, **tiny),
    ]
    for T in (1, 64, 4096):
        made.append(_rows(f"rows, {T} tokens", T=T, heads=8, orders=3, d=256, first=262_144, **full))
        made.append(_gates(f"gate, {T} tokens", T=T, M=4, D=4096, **full))
    return [*made, _gates("gate, training, 4096 tokens", T=4096, M=4, D=4096, **full)]


def _rows(
    name: str, *, T: int, heads: int, orders: int, d: int, first: int, dtype: torch.dtype, size: Size
) -> Case:
    n = heads * orders
    plan = plan_hash(
        layer=1, moduli=range(first, first + n), heads=heads, max_ngram=orders + 1, vocabulary=129280, seed=0
    )

    def inputs(device: torch.device) -> dict[str, Any]:
        gen = torch.Generator(device).manual_seed(0)
        context = torch.randint(129280, (T, orders + 1), generator=gen, device=device)
        return {"context": context, "table": torch.randn(plan.rows, d, generator=gen, device=device, dtype=dtype)}

    plain = partial(_plain_rows, plan=plan)
    return Case(
        op="engram_lookup", name=name, inputs=inputs, run=torch.no_grad()(partial(lookup, plan=plan)), reference=plain,
        work=Work(flops=3.0 * T * n, bytes=T * n * (2 * d * dtype.itemsize + 8), unit="fp32"), tolerance=0.0, size=size,
        peers={} if size == "tiny" else {"eager": plain},
    )  # fmt: skip


@torch.no_grad()
def _plain_rows(context: Tensor, table: Tensor, plan: HashPlan) -> tuple[Tensor, Tensor]:
    ids = hashing.row_ids(context, plan)
    return ref.gather(table, ids), ids


def _gates(name: str, *, T: int, M: int, D: int, dtype: torch.dtype, size: Size) -> Case:
    trains = "training" in name
    run, plain = (partial(_gradients if trains else _values, body) for body in (gate, _plain_gate))
    values = T * M * D
    return Case(
        op="engram_lookup", name=name, inputs=partial(_inputs, T=T, M=M, D=D, dtype=dtype), run=run, size=size,
        reference=partial(_exactly, plain),
        work=Work(flops=values * (30.0 if trains else 10.0), bytes=(6 if trains else 2) * values * dtype.itemsize,
                  unit="fp32"),
        tolerance=1e-4 if dtype == torch.float32 else 1e-2, peers={} if size == "tiny" else {"eager": plain},
    )  # fmt: skip


def _inputs(device: torch.device, *, T: int, M: int, D: int, dtype: torch.dtype) -> dict[str, Any]:
    gen = torch.Generator(device).manual_seed(0)
    draw = partial(torch.randn, generator=gen, device=device)
    return {
        "streams": draw(T, M, D).to(dtype), "keys": draw(T, M, D).to(dtype), "q_weight": draw(M, D),
        "k_weight": draw(M, D), "g": draw(T, M),
    }  # fmt: skip


def _plain_gate(*given: Any) -> Tensor:
    with use(Body.REFERENCE):
        return ref.gate(*given)


def _values(body: Callable[..., Tensor], g: Tensor, **given: Tensor) -> Tensor:
    with torch.no_grad():
        return body(*given.values(), _EPS)


def _gradients(body: Callable[..., Tensor], g: Tensor, **given: Tensor) -> tuple[Tensor, ...]:
    leaves = [one.detach().requires_grad_() for one in given.values()]
    with torch.enable_grad():
        out = body(*leaves, _EPS)
    return out.detach(), *torch.autograd.grad(out, leaves, g)


def _exactly(plain: Callable[..., Any], **given: Tensor) -> Any:
    return plain(**{name: value.float() for name, value in given.items()})
