"""Queries and ring rows of a step (Flash: 64 heads of 512 channels, 64 of them rotary, FP8 rows), outputs turned back.

The reference is the plain body with FP32 arithmetic; ring rows are compared as the values they hold. Bytes: queries
once each way, key rows read, ring rows written.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from octavo.bench.case import Case, Result, Work, relative_l2
from octavo.kernels.cache_write import ref
from octavo.kernels.cache_write.triton import cache_write, rotate_out
from octavo.kernels.paged import Format, Places, Ring
from octavo.kernels.quant import decode_rows_fp8
from octavo.kernels.rope import inverse_frequencies, rope_table

_EPS = 1e-6


def cases() -> list[Case]:
    """Tiny cases of every format; full ones for an H100."""
    tiny: dict[str, Any] = {"H": 3, "K": 96, "P": 16, "R": 8, "dtype": torch.float32, "size": "tiny"}
    made = [_step(form, [5, 0], [3, 2], form=form, **tiny) for form in ("fp32", "bf16", "fp8")]
    made.append(_step("longer than the ring", [5], [19], form="fp8", **tiny))
    made.append(_turned("back", T=5, H=3, K=96, P=16, dtype=torch.float32, size="tiny"))
    flash: dict[str, Any] = {"H": 64, "K": 512, "P": 64, "dtype": torch.bfloat16, "size": "full"}
    for batch in (1, 8, 32, 64):
        made.append(_step(f"decode, batch {batch}", [8191] * batch, [1] * batch, form="fp8", R=256, **flash))
    made.append(_step("chunk 4096", [4096], [4096], form="fp8", R=8192, **flash))
    return [*made, *(_turned(f"back, {T} tokens", T=T, **flash) for T in (1, 64, 4096))]


def _step(
    name: str, starts: Sequence[int], counts: Sequence[int], *, H: int, K: int, P: int, R: int, form: Format,
    dtype: torch.dtype, size: Literal["tiny", "full"],
) -> Case:  # fmt: skip
    T, row = sum(counts), ref.row_bytes(K, form, P)
    options: dict[str, Any] = {"eps": _EPS, "format": form, "rope": P}
    plain = partial(_plain, options)
    return Case(
        op="cache_write", name=name, size=size, run=partial(_run, options), reference=plain,
        inputs=partial(_inputs, starts=list(starts), counts=list(counts), H=H, K=K, P=P, R=R, row=row, dtype=dtype),
        work=Work(flops=7.0 * T * (H + 1) * K, bytes=T * (2 * H + 1) * K * dtype.itemsize + T * row, unit="fp32"),
        error=partial(_error, form, K, P), tolerance=1e-3 if dtype == torch.float32 else 5e-3,
        peers={} if size == "tiny" else {"eager": plain},
    )  # fmt: skip


def _inputs(
    device: torch.device, *, starts: list[int], counts: list[int], H: int, K: int, P: int, R: int, row: int,
    dtype: torch.dtype,
) -> dict[str, Any]:  # fmt: skip
    gen = torch.Generator(device).manual_seed(0)
    draw = partial(torch.randn, generator=gen, device=device)
    places = Places.of(starts, counts, device)
    T = sum(counts)
    cos, sin = rope_table(places.position.long(), inverse_frequencies(base=10000.0, dims=P))
    return {
        "q": draw(T, H, K).to(dtype), "kv": draw(T, K).to(dtype), "kv_weight": draw(K), "cos": cos, "sin": sin,
        "ring": Ring(torch.zeros(len(starts), R, row, dtype=torch.uint8, device=device)), "places": places,
    }  # fmt: skip


def _run(options: dict[str, Any], **given: Any) -> Result:
    return cache_write(**given, **options), given["ring"].rows


def _plain(options: dict[str, Any], *, ring: Ring, **given: Any) -> Result:
    """Into a ring of its own."""
    own = Ring(torch.zeros_like(ring.rows))
    return ref.cache_write(**given, ring=own, **options), own.rows


def _error(form: Format, K: int, P: int, got: Result, wanted: Result) -> float:
    def values(result: Result) -> tuple[Tensor, Tensor]:
        rows = result[1].flatten(0, 1)
        if form == "fp8":
            return result[0], decode_rows_fp8(rows, K, P)
        return result[0], rows.view(torch.bfloat16 if form == "bf16" else torch.float32)

    return relative_l2(values(got), values(wanted))


def _turned(
    name: str, *, T: int, H: int, K: int, P: int, dtype: torch.dtype, size: Literal["tiny", "full"]
) -> Case:
    def inputs(device: torch.device) -> dict[str, Any]:
        gen = torch.Generator(device).manual_seed(0)
        cos, sin = rope_table(8192 + torch.arange(T, device=device), inverse_frequencies(base=10000.0, dims=P))
        return {"o": torch.randn(T, H, K, generator=gen, device=device).to(dtype), "cos": cos, "sin": sin}

    return Case(
        op="cache_write", name=name, inputs=inputs, run=rotate_out, reference=ref.rotate_out, size=size,
        work=Work(flops=3.0 * T * H * P, bytes=2 * T * H * K * dtype.itemsize, unit="fp32"),
        tolerance=1e-5 if dtype == torch.float32 else 5e-3, peers={} if size == "tiny" else {"eager": ref.rotate_out},
    )  # fmt: skip
