"""Linear maps with FP8 weights at the shapes of Flash: the query, key and output projections, and the BF16 head.

Covers: decoding 1 to 64 tokens and a chunk of 4096; the grouped output projection; FP8 activations. The reference is
the FP32 product with the decoded weight. Bytes: weights, scales, x and result once.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from octavo.bench.case import Case, Work
from octavo.kernels.linear.triton import grouped_linear
from octavo.kernels.linear.triton_fp8 import linear_fp8
from octavo.kernels.quant import fp8_dequantize_blocks, simulate_fp8

_NAN, _SMALL = 0x7F, 114  # e4m3 code of NaN; a scale that gives random codes a size of about 2^-6
_Size = Literal["tiny", "full"]
_SHAPES = {  # name -> groups, outputs, inputs of a group
    "wq_a": (1, 1024, 4096),
    "wq_b": (1, 32768, 1024),
    "wkv": (1, 512, 4096),
    "wo_a": (8, 8192, 4096),
    "wo_b": (1, 4096, 8192),
}


def cases() -> list[Case]:
    """Tiny and full cases."""
    made = [
        _case("tiny fp8", T=3, G=1, O=200, N=256, size="tiny"),
        _case("tiny fp8 grouped", T=2, G=2, O=256, N=128, size="tiny"),
        _case("tiny fp8 many", T=70, G=1, O=128, N=128, size="tiny"),
        _case("tiny dense", T=5, G=1, O=96, N=48, fp8=False, size="tiny"),
        _case("tiny fp8 activations", T=5, G=1, O=128, N=256, native=True, size="tiny"),
    ]
    for name, (G, O, N) in _SHAPES.items():
        made += [_case(f"{name}, {T} tokens", T=T, G=G, O=O, N=N) for T in (1, 8, 64, 4096)]
    made += [_case(f"wo_b, {T} tokens", T=T, G=1, O=4096, N=8192) for T in (16, 32)]
    made.append(_case("wo_b, 4096 tokens, fp8 activations", T=4096, G=1, O=4096, N=8192, native=True))
    made += [_case(f"head in bf16, {T} tokens", T=T, G=1, O=129280, N=4096, fp8=False) for T in (1, 8)]
    return made


def _draw(T: int, G: int, O: int, N: int, fp8: bool, device: torch.device) -> dict[str, Any]:
    g = torch.Generator(device).manual_seed(4)
    dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
    x = torch.randn(T, G, N, generator=g, device=device).to(dtype)
    if not fp8:
        return {"x": x, "weight": (torch.randn(O, N, generator=g, device=device) * N**-0.5).to(dtype), "scale": None}
    weight = torch.randint(256, (O, N), generator=g, device=device, dtype=torch.uint8)
    weight = weight.masked_fill_((weight & 0x7F) == _NAN, 0)
    shape = (-(-O // 128), N // 128)
    scale = torch.randint(_SMALL - 2, _SMALL + 3, shape, generator=g, device=device, dtype=torch.uint8)
    return {"x": x, "weight": weight, "scale": scale}


def _decoded(weight: Tensor, scale: Tensor | None) -> Tensor:
    return weight if scale is None else fp8_dequantize_blocks(weight.view(torch.float8_e4m3fn), scale)


def _product(x: Tensor, weight: Tensor) -> Tensor:
    T, G, N = x.shape
    return torch.einsum("tgn,grn->tgr", x, weight.view(G, -1, N)).flatten(1)


def _case(
    name: str, *, T: int, G: int, O: int, N: int, fp8: bool = True, native: bool = False, size: _Size = "full"
) -> Case:
    def run(x: Tensor, weight: Tensor, scale: Tensor | None) -> Tensor:
        if native and scale is not None:
            return linear_fp8(x[:, 0], weight, scale, dtype=torch.float32)
        return grouped_linear(x, weight, scale, dtype=torch.float32)

    def reference(x: Tensor, weight: Tensor, scale: Tensor | None) -> Tensor:
        wide = simulate_fp8(x.float(), 128) if native else x.float()
        return _product(wide, _decoded(weight, scale).float())

    held: dict[int, Tensor] = {}

    def cublas(x: Tensor, weight: Tensor, scale: Tensor | None) -> Tensor:
        key = weight.data_ptr()
        if key not in held:  # the weight is decoded once: the peer reads it as BF16
            held.clear()
            held[key] = _decoded(weight, scale).to(x.dtype)
        return _product(x, held[key])

    stored = O * N + -(-O // 128) * (N // 128) if fp8 else 2 * O * N
    return Case(
        op="linear",
        name=name,
        inputs=partial(_draw, T, G, O, N, fp8),
        run=run,
        reference=reference,
        work=Work(flops=2 * T * O * N, bytes=stored + 2 * T * G * N + 4 * T * O, unit="fp8" if native else "bf16"),
        tolerance=1e-3,
        peers={} if size == "tiny" else {"cuBLAS, weight in bf16": cublas},
        size=size,
    )
