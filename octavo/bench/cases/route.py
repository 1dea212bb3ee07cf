"""Choice of experts from router logits and from hidden vectors (Flash: 256 experts, 6 chosen).

Covers: decoding and reading chunks, learned and looked-up choices. The reference is FP32 arithmetic and a stable sort;
a choice of equal rank counts as right. Bytes: logits (or hidden vectors and gate) once, scores and choice once.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from octavo.bench.case import Case, Result, Work, relative_l2
from octavo.kernels.route.triton import choose, route

_SCALE = 1.5
_OPERATIONS = 12  # of one score and its six comparisons, roughly


def cases() -> list[Case]:
    """Tiny and full cases."""
    made = [
        _choice("tiny", T=5, X=24, A=3, size="tiny"),
        _choice("tiny odd", T=3, X=5, A=5, size="tiny"),
        _choice("tiny looked up", T=5, X=24, A=3, given=True, size="tiny"),
        _whole("tiny product", T=4, X=24, A=3, D=64, dtype=torch.float32, size="tiny"),
    ]
    for T in (1, 8, 64, 4096, 8192):
        made.append(_choice(f"{T} tokens", T=T))
    made.append(_choice("4096 tokens, looked up", T=4096, given=True))
    made += [_whole(f"{T} tokens with the product", T=T) for T in (1, 8, 64, 4096)]
    return made


def _draw(T: int, X: int, A: int, D: int, dtype: torch.dtype, given: bool, device: torch.device) -> dict[str, Any]:
    g = torch.Generator(device).manual_seed(3)
    made: dict[str, Any] = {"bias": torch.randn(X, generator=g, device=device) * 0.1, "table": None}
    if D:
        made["x"] = torch.randn(T, D, generator=g, device=device).to(dtype)
        made["gate"] = (torch.randn(X, D, generator=g, device=device) * D**-0.5).to(dtype)
    else:
        made["logits"] = torch.randn(T, X, generator=g, device=device)
    if given:
        made["table"] = torch.randint(X, (T, A), generator=g, device=device)
    return made


def _choice(
    name: str, *, T: int, X: int = 256, A: int = 6, given: bool = False, size: Literal["tiny", "full"] = "full"
) -> Case:
    def run(logits: Tensor, bias: Tensor, table: Tensor | None) -> Result:
        return tuple(choose(logits, top=A, scale=_SCALE, normalise=True, bias=bias, table_rows=table))

    def eager(logits: Tensor, bias: Tensor, table: Tensor | None) -> Result:
        scores = F.softplus(logits).sqrt()
        experts = (scores + bias).topk(A, dim=-1).indices if table is None else table
        weights = scores.gather(1, experts)
        return experts, weights / weights.sum(-1, keepdim=True) * _SCALE, scores

    return Case(
        op="route",
        name=name,
        inputs=partial(_draw, T, X, A, 0, torch.float32, given),
        run=run,
        reference=partial(_reference, A),
        work=Work(flops=_OPERATIONS * T * X, bytes=T * (8 * X + 12 * A), unit="fp32"),
        error=partial(_wrong, given),
        tolerance=1e-5,
        peers={"eager with torch.topk": eager},
        size=size,
    )


def _whole(
    name: str, *, T: int, X: int = 256, A: int = 6, D: int = 4096, dtype: torch.dtype = torch.bfloat16,
    size: Literal["tiny", "full"] = "full",
) -> Case:  # fmt: skip
    def run(x: Tensor, gate: Tensor, bias: Tensor, table: Tensor | None) -> Result:
        return tuple(route(x, gate, top=A, scale=_SCALE, normalise=True, bias=bias, table_rows=table))

    def reference(x: Tensor, gate: Tensor, bias: Tensor, table: Tensor | None) -> Result:
        return _reference(A, x.float() @ gate.float().T, bias, table)

    wide = torch.finfo(dtype).bits // 8
    return Case(
        op="route",
        name=name,
        inputs=partial(_draw, T, X, A, D, dtype, False),
        run=run,
        reference=reference,
        work=Work(flops=2 * T * X * D, bytes=wide * D * (T + X) + T * (4 * X + 12 * A)),
        error=partial(_wrong, False),
        tolerance=1e-4,
        size=size,
    )


def _reference(A: int, logits: Tensor, bias: Tensor, table: Tensor | None) -> Result:
    """Experts, ranks and scores; the weights follow from these."""
    scores = F.softplus(logits.float()).sqrt()
    rank = scores + bias
    experts = rank.sort(dim=-1, descending=True, stable=True).indices[:, :A] if table is None else table
    return experts, rank, scores


def _wrong(given: bool, got: Result, wanted: Result) -> float:
    """Largest relative error of ranks of the choice, weights and scores; 1 if a looked-up choice differs."""
    experts, weights, scores = got
    best, rank, true = wanted
    if given and not torch.equal(experts, best):
        return 1.0
    own = true.gather(1, experts)
    return max(
        relative_l2(rank.gather(1, experts), rank.gather(1, best)),
        relative_l2(weights, own / own.sum(-1, keepdim=True) * _SCALE),
        relative_l2(scores, true),
    )
