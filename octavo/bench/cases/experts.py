"""Routed experts at the shapes of Flash: 256 experts of width 2048, 6 a token, in FP4, FP8 and BF16; training.

Covers: decoding 1 to 64 tokens, chunks up to 8192, activations in BF16 and rounded to FP8, the shared expert in FP8, a
training step of a smaller mixture. The reference decodes the experts of some tokens and computes in FP32, with the
hidden vector rounded to x's dtype, and to FP8, as the contracts have it. Weights are random codes. Bytes: the weights
of the experts that are hit, x and result once.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from octavo.bench.case import Case, Result, Work, relative_l2
from octavo.kernels.experts.fast import grouped
from octavo.kernels.experts.ref import Rounding, keep, swiglu
from octavo.kernels.experts.triton import experts
from octavo.kernels.experts.triton_backward import experts as trained
from octavo.kernels.experts.triton_fp8 import experts_fp8
from octavo.kernels.experts.weights import ExpertFormat, ExpertWeights
from octavo.kernels.quant import fp4_unpack, fp8_dequantize_blocks, simulate_fp8

_LIMIT = 10.0
_CHECKED = 6  # tokens of a large case that are compared
_Size = Literal["tiny", "full"]


def cases() -> list[Case]:
    """Tiny and full cases."""
    tiny = partial(_case, X=5, F=128, D=256, A=3, size="tiny")
    made = [
        tiny("tiny fp4 few", T=3, form="fp4"),
        tiny("tiny fp4 many", T=30, form="fp4", shared="fp8"),
        tiny("tiny fp8 few", T=2, form="fp8", shared="fp8"),
        tiny("tiny bf16 many", T=40, form="bf16"),
        tiny("tiny fp4, activations in fp8", T=30, form="fp4", shared="fp8", rounded=True),
        _training("tiny training", T=6, X=3, F=32, D=16, A=2, size="tiny"),
    ]
    for T in (1, 2, 4, 8, 16):
        made.append(_case(f"fp4, {T} tokens", T=T, form="fp4", headline=6))
    made += [_case(f"fp4, {T} tokens", T=T, form="fp4") for T in (32, 64, 512)]
    made.append(_case("fp4, 8 tokens, shared in fp8", T=8, form="fp4", shared="fp8"))
    made.append(_case("fp4, 4096 tokens", T=4096, form="fp4", headline=7))
    made.append(_case("fp4, 8192 tokens, shared in fp8", T=8192, form="fp4", shared="fp8"))
    for T in (4096, 8192):
        name = f"fp4, {T} tokens, shared in fp8, activations in fp8"
        made.append(_case(name, T=T, form="fp4", shared="fp8", rounded=True))
    made += [_case(f"{form}, {T} tokens", T=T, form=form) for form in ("fp8", "bf16") for T in (8, 4096)]
    made.append(_training("bf16 training", T=8192, X=64, F=1024, D=2048, A=6))
    return made


def _weights(form: ExpertFormat, X: int, F: int, D: int, dtype: torch.dtype, g: torch.Generator) -> ExpertWeights:
    made: dict[str, Any] = {}
    for name, out, width in (("1", F, D), ("3", F, D), ("2", D, F)):
        if form == "bf16":
            w = torch.empty(X, out, width, dtype=dtype, device=g.device).normal_(0, width**-0.5, generator=g)
            made[f"w{name}"] = w
            continue
        per, group, size = (2, (1, 32), 119) if form == "fp4" else (1, (128, 128), 114)
        codes = torch.randint(256, (X, out, width // per), generator=g, device=g.device, dtype=torch.uint8)
        if form == "fp8":
            codes.masked_fill_((codes & 0x7F) == 0x7F, 0)
        shape = (X, -(-out // group[0]), width // group[1])
        scales = torch.randint(size - 1, size + 2, shape, generator=g, device=g.device, dtype=torch.uint8)
        made |= {f"w{name}": codes, f"s{name}": scales}
    return ExpertWeights(format=form, **made)


def _chosen(T: int, X: int, A: int) -> Tensor:
    return torch.rand(T, X, generator=torch.Generator().manual_seed(6)).topk(A).indices


def _draw(
    T: int, X: int, F: int, D: int, A: int, form: ExpertFormat, shared: ExpertFormat | None, device: torch.device
) -> dict[str, Any]:  # fmt: skip
    g = torch.Generator(device).manual_seed(5)
    dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
    return {
        "x": torch.randn(T, D, generator=g, device=device).to(dtype),
        "weights": _weights(form, X, F, D, dtype, g),
        "chosen": _chosen(T, X, A).to(device),
        "share": torch.rand(T, A, generator=g, device=device) + 0.1,
        "shared": None if shared is None else _weights(shared, 1, F, D, dtype, g),
    }


def _run(x: Tensor, weights: ExpertWeights, chosen: Tensor, share: Tensor, shared: ExpertWeights | None) -> Tensor:
    return experts(x, weights, chosen, share, limit=_LIMIT, shared=shared)


def _run_fp8(x: Tensor, weights: ExpertWeights, chosen: Tensor, share: Tensor, shared: ExpertWeights | None) -> Tensor:
    return experts_fp8(x, weights, chosen, share, limit=_LIMIT, shared=shared)


def _decoded(weights: ExpertWeights, name: str, expert: int) -> Tensor:
    w, s = getattr(weights, f"w{name}")[expert], getattr(weights, f"s{name}")
    if s is None:
        return w.float()
    return fp4_unpack(w, s[expert]) if weights.format == "fp4" else fp8_dequantize_blocks(
        w.view(torch.float8_e4m3fn), s[expert]
    )  # fmt: skip


def _one(x: Tensor, weights: ExpertWeights, expert: int, share: float | Tensor, rounding: Rounding) -> Tensor:
    gate, up = (_decoded(weights, name, expert) @ rounding(x).float() for name in ("1", "3"))
    hidden = (swiglu(gate, up, _LIMIT) * share).to(x.dtype)
    return _decoded(weights, "2", expert) @ rounding(hidden).float()


def _to_fp8(x: Tensor) -> Tensor:
    return simulate_fp8(x[None], 128)[0]


def _rows(T: int) -> list[int]:
    return sorted({t * (T - 1) // max(1, _CHECKED - 1) for t in range(_CHECKED)})


def _reference(
    x: Tensor, weights: ExpertWeights, chosen: Tensor, share: Tensor, shared: ExpertWeights | None,
    rounding: Rounding = keep,
) -> Tensor:  # fmt: skip
    out = []
    for t in _rows(len(x)):
        parts = [_one(x[t], weights, int(e), share[t, a], rounding) for a, e in enumerate(chosen[t])]
        more = 0 if shared is None else _one(x[t], shared, 0, 1.0, rounding)
        out.append(sum(parts, torch.zeros_like(parts[0])) + more)
    return torch.stack(out)


def _of_rows(got: Result, wanted: Result) -> float:
    assert isinstance(got, Tensor)
    return relative_l2(got[_rows(len(got))], wanted)


def _one_product() -> Callable[..., Tensor]:
    """The same products by cuBLAS as if there were one expert, without activation and sum; its inputs are made once."""
    held: list[Tensor] = []

    def product(
        x: Tensor, weights: ExpertWeights, chosen: Tensor, share: Tensor, shared: ExpertWeights | None
    ) -> Tensor:
        _, F, D = weights.shape
        if not held:
            held.extend(torch.randn_like(x[:1].expand(rows, -1)) for rows in (chosen.numel(), 2 * F, F))
        rows, both, down = held
        return (rows @ both.T)[:, :F] @ down

    return product


def _eager(x: Tensor, weights: ExpertWeights, chosen: Tensor, share: Tensor, shared: ExpertWeights | None) -> Tensor:
    return grouped(x, weights.w1, weights.w3, weights.w2, chosen=chosen, weights=share, limit=_LIMIT)


def _case(
    name: str, *, T: int, form: ExpertFormat, X: int = 256, F: int = 2048, D: int = 4096, A: int = 6,
    shared: ExpertFormat | None = None, headline: int | None = None, size: _Size = "full", rounded: bool = False,
) -> Case:  # fmt: skip
    bits = {"bf16": 16, "fp8": 8 + 8 / 128**2, "fp4": 4 + 8 / 32}
    hit = len(_chosen(T, X, A).unique())
    held = 3 * F * D / 8 * (hit * bits[form] + (0 if shared is None else bits[shared]))
    flops = 6 * F * D * T * (A + (shared is not None))
    peers = {}
    if size == "full" and T >= 512:
        peers["cuBLAS, one expert in bf16"] = _one_product()
    if size == "full" and form == "bf16" and shared is None:
        peers["eager, a product an expert"] = _eager
    if size == "full" and rounded:
        peers["activations in bf16"] = _run
    return Case(
        op="experts",
        name=name,
        inputs=partial(_draw, T, X, F, D, A, form, shared),
        run=_run_fp8 if rounded else _run,
        reference=partial(_reference, rounding=_to_fp8) if rounded else _reference,
        work=Work(flops=flops, bytes=held + T * D * 6, unit="fp8" if rounded else "bf16"),
        error=_of_rows,
        # FP8 products are summed in about 14 bits, and hidden values fall to other sides of rounding steps.
        tolerance=1e-2 if rounded else 1e-3,
        peers=peers,
        size=size,
        headline=headline,
    )


def _training(name: str, *, T: int, X: int, F: int, D: int, A: int, size: _Size = "full") -> Case:
    def inputs(device: torch.device) -> dict[str, Any]:
        made = _draw(T, X, F, D, A, "bf16", None, device)
        weights: ExpertWeights = made.pop("weights")
        del made["shared"]
        grad = torch.randn(T, D, generator=torch.Generator(device).manual_seed(7), device=device)
        return made | {"w1": weights.w1, "w3": weights.w3, "w2": weights.w2, "grad": grad}

    def step(call: Any, x: Tensor, w1: Tensor, w3: Tensor, w2: Tensor, share: Tensor, grad: Tensor) -> Result:
        leaves = [t.detach().requires_grad_() for t in (x, w1, w3, w2, share)]
        with torch.enable_grad():
            out = call(*leaves)
        return (out.detach(), *torch.autograd.grad(out, leaves, grad.to(out.dtype)))

    def run(chosen: Tensor, x: Tensor, w1: Tensor, w3: Tensor, w2: Tensor, share: Tensor, grad: Tensor) -> Result:
        def call(x: Tensor, w1: Tensor, w3: Tensor, w2: Tensor, share: Tensor) -> Tensor:
            return trained(x, w1, w3, w2, chosen=chosen, share=share, limit=_LIMIT)

        return step(call, x, w1, w3, w2, share, grad)

    def eager(chosen: Tensor, x: Tensor, w1: Tensor, w3: Tensor, w2: Tensor, share: Tensor, grad: Tensor) -> Result:
        def call(x: Tensor, w1: Tensor, w3: Tensor, w2: Tensor, share: Tensor) -> Tensor:
            return grouped(x, w1, w3, w2, chosen=chosen, weights=share, limit=_LIMIT)

        return step(call, x, w1, w3, w2, share, grad)

    def reference(**given: Tensor) -> Result:
        return eager(**{name: t if name == "chosen" else t.float() for name, t in given.items()})

    wide = 4 if size == "tiny" else 2
    return Case(
        op="experts",
        name=name,
        inputs=inputs,
        run=run,
        reference=reference,
        work=Work(flops=18 * F * D * T * A, bytes=wide * (9 * X * F * D + 4 * T * D)),
        tolerance=1e-2,
        peers={} if size == "tiny" else {"eager, a product an expert": eager},
        size=size,
    )
