"""Norm, rotation and ring rows in plain PyTorch, and the checks that every body makes."""

from __future__ import annotations

import torch
from torch import Tensor

from octavo.kernels.paged import Format, Places, Ring
from octavo.kernels.quant import encode_rows_fp8
from octavo.kernels.rmsnorm.ref import rmsnorm
from octavo.kernels.rope.ref import rotate

_FLOATS = (torch.bfloat16, torch.float16, torch.float32)


def cache_write(
    q: Tensor, kv: Tensor, kv_weight: Tensor, cos: Tensor, sin: Tensor, ring: Ring, places: Places, *, eps: float,
    format: Format, rope: int, out: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """See the package docstring for the contract."""
    check(q, kv, kv_weight, cos, sin, ring, places, format, rope, out)
    made = rotate(rmsnorm(q.float(), None, eps), cos.unsqueeze(1), sin.unsqueeze(1))
    made = made.masked_fill((places.position < 0).view(-1, 1, 1), 0.0).to(q.dtype)
    rows = encoded(rotate(rmsnorm(kv.float(), kv_weight, eps), cos, sin), format, rope)
    R = ring.length
    slot = places.sequence.clamp_min(0).long() * R + places.position.long() % R  # padding may have any sequence
    last = torch.full((ring.rows.shape[0] * R,), -1, dtype=torch.int64, device=q.device)
    last.scatter_reduce_(0, slot, places.position.long(), "amax")
    kept = ((places.position >= 0) & (last[slot] == places.position)).nonzero().squeeze(1)
    ring.rows.view(-1, ring.rows.shape[-1]).index_copy_(0, slot[kept], rows[kept])
    return made if out is None else out.copy_(made)


def encoded(x: Tensor, format: Format, rope: int) -> Tensor:
    """FP32 rows [T, K] -> their bytes, uint8 [T, row bytes]."""
    if format == "fp8":
        return encode_rows_fp8(x, rope)
    return (x.bfloat16() if format == "bf16" else x).contiguous().view(torch.uint8)


def rotate_out(o: Tensor, cos: Tensor, sin: Tensor, *, out: Tensor | None = None) -> Tensor:
    """See the package docstring for the contract."""
    check_out(o, cos, sin, out)
    made = rotate(o.float(), cos.unsqueeze(1), sin.unsqueeze(1), inverse=True).to(o.dtype)
    return made if out is None else out.copy_(made)


def check(
    q: Tensor, kv: Tensor, kv_weight: Tensor, cos: Tensor, sin: Tensor, ring: Ring, places: Places, format: Format,
    rope: int, out: Tensor | None,
) -> None:  # fmt: skip
    """ValueError for what a body would read or write wrongly."""
    check_out(q, cos, sin, out, "q")
    T, _, K = q.shape
    require("kv", kv, (T, K), _FLOATS)
    require("kv_weight", kv_weight, (K,), _FLOATS)
    require("places.sequence", places.sequence, (T,), (torch.int32,))
    require("places.position", places.position, (T,), (torch.int32,))
    if format not in ("fp32", "bf16", "fp8"):
        raise ValueError(f"format is {format}; it must be fp32, bf16 or fp8")
    if not 0 <= rope <= K or rope % 2:
        raise ValueError(f"rope is {rope}; it must be even, 0 to the row's width {K}")
    B, R = ring.rows.shape[:2]
    require("ring.rows", ring.rows, (B, R, row_bytes(K, format, rope)), (torch.uint8,))
    if R < 1 or R & (R - 1):
        raise ValueError(f"ring has {R} rows a sequence; their number must be a power of two")


def row_bytes(K: int, format: Format, rope: int) -> int:
    """Bytes of a row of K channels."""
    if format != "fp8":
        return K * (2 if format == "bf16" else 4)
    groups = (K - rope + 63) // 64
    return K + rope + groups + -groups % 8


def check_out(o: Tensor, cos: Tensor, sin: Tensor, out: Tensor | None, name: str = "o") -> None:
    """ValueError for rows, tables or a result that do not belong together."""
    require(name, o, (o.shape[0], o.shape[1], o.shape[-1]), _FLOATS)
    T, _, K = o.shape
    if K % 2 or not 2 <= K <= 8192:
        raise ValueError(f"{name} has {K} channels; their number must be even, 2 to 8192")
    half = cos.shape[-1]
    if not 1 <= half <= K // 2:
        raise ValueError(f"cos turns {half} pairs of {K} channels; 1 to {K // 2} are possible")
    require("cos", cos, (T, half), _FLOATS)
    require("sin", sin, (T, half), _FLOATS)
    if out is not None:
        require("out", out, tuple(o.shape), (o.dtype,))


def require(name: str, x: Tensor, shape: tuple[int, ...], dtypes: tuple[torch.dtype, ...]) -> None:
    """ValueError unless x is contiguous and of this shape and one of these dtypes."""
    if tuple(x.shape) != shape or x.dtype not in dtypes or not x.is_contiguous():
        raise ValueError(
            f"{name} is {x.dtype} {tuple(x.shape)}{'' if x.is_contiguous() else ' with gaps'}; "
            f"it must be contiguous, {' or '.join(map(str, dtypes))} of shape {shape}"
        )
