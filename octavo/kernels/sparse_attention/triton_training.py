"""Attention of whole rows of tokens with gradients, on a GPU: `attend_rows`.

Contract. `attend_rows(q [B, S, H, K], window_rows [B, N, K], sink [H], rows [B, C, K] or None, selection, *, first,
window, scale, begin=None) -> o [B, S, H, K]`, as `octavo.kernels.sparse_attention` says, for `Causal`, `Picked`,
`Marked` or None, without mass.
`attend_with_sums` gives the log sums too, natural, with the sink, FP32 [B, S, H], which carry no gradient.
Query s is token first + s; the window's last S rows are the queries' own. q is BF16 or FP32, other rows are cast to it;
K up to 512. Differentiable in q, window_rows, sink and rows, once; never in an offset. Gradients of window rows, of all
complete and of marked entries are summed in a fixed order; those of picked entries by atomic additions, so their last
bits change from run to run. Memory beside inputs and outputs: 2 FP32 numbers a query and head, backward FP32 gradients
of rows.
"""

# Triton's annotations do not know that constants arrive as plain numbers, nor launch options.
# pyright: reportArgumentType=false, reportCallIssue=false

from __future__ import annotations

from typing import Any

import torch
import triton
from torch import Tensor

from octavo.kernels.paged import Places
from octavo.kernels.selection import WORD, Causal, Marked, Picked, Selection
from octavo.kernels.sparse_attention.triton import Config, Keys, launch, sizes_of, tensors_of
from octavo.kernels.sparse_attention.triton_backward import delta_kernel, query_kernel, row_kernel
from octavo.kernels.sparse_attention.triton_rows import CAUSAL, MARKED, NONE, PICKED, tile_width

_LOG2E = 1.4426950408889634
_PROGRAMS = 264  # programs that fill an H100: splits of queries make up for few entries
# (width up to, rows of a product, keys a tile, warps, stages) of BF16; forward and queries' gradients, then rows'
_FORWARD = ((128, 64, 64, 4, 3), (256, 64, 64, 8, 2), (512, 64, 64, 8, 2))
_QUERIES = ((128, 64, 64, 4, 2), (256, 64, 32, 8, 2), (512, 64, 32, 8, 1))
_SCATTER = ((128, 64, 64, 4, 2), (512, 32, 32, 8, 1))  # queries' gradients with picks
_ROWS = ((128, 64, 64, 4, 2), (256, 64, 32, 8, 2), (512, 64, 32, 8, 1))
_FP32 = (512, 16, 16, 8, 1)


def attend_rows(
    q: Tensor, window_rows: Tensor, sink: Tensor, rows: Tensor | None, selection: Selection | None, *, first: int,
    window: int, scale: float, begin: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """See the module docstring. Raises ValueError for a wrong shape, dtype or selection."""
    sizes = {"first": first, "window": window, "scale": scale, "begin": begin}
    return attend_with_sums(q, window_rows, sink, rows, selection, **sizes)[0]


def attend_with_sums(
    q: Tensor, window_rows: Tensor, sink: Tensor, rows: Tensor | None, selection: Selection | None, *, first: int,
    window: int, scale: float, begin: Tensor | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """See the module docstring. Raises ValueError for a wrong shape, dtype or selection."""
    B, S, H, K = q.shape
    if rows is None or rows.shape[1] == 0:
        rows = selection = None
    _check(q, window_rows, sink, rows, selection, window)
    index, words, offset, ratio = None, None, None, 1
    if isinstance(selection, Picked):
        index = selection.index.to(torch.int32).reshape(B * S, -1).contiguous()
        if index.shape[1] == 0:
            rows = index = None
    elif isinstance(selection, Marked):
        ratio, words = selection.ratio, selection.words.contiguous()
    elif isinstance(selection, Causal):
        ratio = selection.ratio
        if selection.offset is not None:
            offset = selection.offset.float().expand(B).contiguous()
    near = window_rows.to(q.dtype).contiguous()
    far = None if rows is None else rows.to(q.dtype).contiguous()
    borders = None if begin is None else _borders(begin, selection)
    o, lse = _Attend.apply(q.contiguous(), near, sink, far, index, words, offset, borders, ratio, first, window, scale)
    return o, lse.view(B, S, H) / _LOG2E


class _Attend(torch.autograd.Function):
    """Keeps inputs, output and log sums; recomputes probabilities."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, near: Tensor, sink: Tensor, far: Tensor | None, index: Tensor | None,
        words: Tensor | None, offset: Tensor | None, borders: Tensor | None, ratio: int, first: int, window: int,
        scale: float,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        B, S, H, K = q.shape
        out = torch.empty_like(q)
        flat = q.view(B * S, H, K)
        lse = launch(
            flat, sink.float(), _keys(near, far, index, words, ratio, first, S), _places(q, first),
            _listed(index, words), offset, out.view(B * S, H, K), _config(_FORWARD, q, packed=index is None), window,
            scale, borders,
        )  # fmt: skip
        ctx.save_for_backward(q, near, sink, far, index, words, offset, borders, out, lse)
        ctx.sizes = ratio, first, window, scale
        ctx.mark_non_differentiable(lse)
        return out, lse

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q, near, sink, far, index, words, offset, borders, out, lse = ctx.saved_tensors
        ratio, first, window, scale = ctx.sizes
        g = grads[0].contiguous()
        delta, K = q.new_empty(q.shape[:3], dtype=torch.float32), q.shape[-1]
        delta_kernel[(triton.cdiv(delta.numel(), 16),)](
            g, out, delta, delta.numel(), K=K, W=triton.next_power_of_2(K), BLOCK=16
        )
        dq, dnear, dsink, dfar = torch.empty_like(q), None, None, None
        if far is not None and index is not None:
            dfar = torch.zeros(far.shape, dtype=torch.float32, device=far.device)
        if ctx.needs_input_grad[0] or index is not None:
            _query_gradients(
                q, near, far, index, words, offset, borders, g, lse, delta, dq, dfar, ratio, first, window, scale
            )
        if ctx.needs_input_grad[1]:
            dnear = _row_gradients(q, near, g, lse, delta, None, None, borders, 0, first, window, scale)
        if ctx.needs_input_grad[2]:
            share = torch.exp2(sink.float() * _LOG2E - lse)
            dsink = -(share * delta.view(lse.shape)).sum(0).to(sink.dtype)
        if far is not None and index is None and ctx.needs_input_grad[3]:
            dfar = _row_gradients(q, far, g, lse, delta, words, offset, borders, ratio, first, window, scale)
        dfar = None if dfar is None or far is None else dfar.to(far.dtype)
        return dq, dnear, dsink, dfar, *[None] * 8


def _query_gradients(
    q: Tensor, near: Tensor, far: Tensor | None, index: Tensor | None, words: Tensor | None, offset: Tensor | None,
    borders: Tensor | None, g: Tensor, lse: Tensor, delta: Tensor, dq: Tensor, dfar: Tensor | None, ratio: int,
    first: int, window: int, scale: float,
) -> None:  # fmt: skip
    """Write dq; add picked entries' gradients to dfar."""
    B, S, H, _ = q.shape
    table, listed = _QUERIES if index is None else _SCATTER, _listed(index, words)
    keys, config = _keys(near, far, index, words, ratio, first, S), _config(table, q, packed=index is None)
    grid = (triton.cdiv(B * S, config.queries) * triton.cdiv(H, config.block_h),)
    query_kernel[grid](
        q, *tensors_of(keys, _places(q, first), listed, offset), lse if borders is None else borders, g, lse, delta, dq,
        lse if dfar is None else dfar, B * S, *sizes_of(keys, listed), window, scale, **keys.constants(q),
        OFFSET=offset is not None, BORDERS=borders is not None,
        QUERIES=config.queries, BLOCK_H=config.block_h, BLOCK_K=config.block_k, num_warps=config.warps,
        num_stages=config.stages,
    )  # fmt: skip


def _row_gradients(
    q: Tensor, rows: Tensor, g: Tensor, lse: Tensor, delta: Tensor, words: Tensor | None, offset: Tensor | None,
    borders: Tensor | None, ratio: int, first: int, window: int, scale: float,
) -> Tensor:  # fmt: skip
    """Gradients of `rows` [B, N, K], in their dtype: entries for a ratio (marked by `words`, if given), the window's
    rows for ratio 0."""
    B, S, H, K = q.shape
    N = rows.shape[1]
    _, block_m, block_n, warps, stages = _row_of(_ROWS, q)
    tiles = triton.cdiv(N, block_n) * B
    splits = max(1, min(_PROGRAMS // tiles, triton.cdiv(S * H, block_m))) if ratio else 1
    grad = q.new_empty((splits, B, N, K), dtype=torch.float32)
    constants = _keys(rows, None, None, None, 1, first, S).constants(q)
    selection = NONE if not ratio else CAUSAL if words is None else MARKED
    row_kernel[(triton.cdiv(N, block_n), B, splits)](
        q, rows, g, lse, delta, lse if offset is None else offset, lse if words is None else words,
        lse if borders is None else borders, grad, S, N, first, first - (N - S), window,
        0 if words is None else words.shape[-1], scale, H=H, K=K, W=tile_width(K), DOT=constants["DOT"],
        SELECTION=selection, OFFSET=offset is not None, BORDERS=borders is not None, RATIO=max(ratio, 1),
        SPLITS=splits, BLOCK_N=block_n, BLOCK_M=block_m, num_warps=warps, num_stages=stages,
    )  # fmt: skip
    return (grad[0] if splits == 1 else grad.sum(0)).to(rows.dtype)


def _borders(begin: Tensor, selection: Selection | None) -> Tensor:
    """Int32 [3, B * S] as the kernels take it: the first token and the entries of each query's document. Entries are
    read for `Causal` alone."""
    bounds = selection.bounds if isinstance(selection, Causal) else None
    parts = (begin, begin, begin) if bounds is None else (begin, bounds.first, bounds.stop)
    return torch.stack(parts).to(torch.int32).flatten(1)


def _keys(
    near: Tensor, far: Tensor | None, index: Tensor | None, words: Tensor | None, ratio: int, first: int, S: int
) -> Keys:
    """Plain tensors [B, N, K] and [B, C, K] as the forward kernels take keys."""
    N, K = near.shape[1:]
    form = "bf16" if near.dtype == torch.bfloat16 else "fp32"
    kind = PICKED if index is not None else MARKED if words is not None else CAUSAL
    entries = None if far is None else far.view(-1, K).view(torch.uint8)
    return Keys(near.view(-1, K).view(torch.uint8), entries, None, form, 0, NONE if far is None else kind, ratio, 0, N,
                0 if far is None else far.shape[1], dense=True, shift=first - (N - S))  # fmt: skip


def _listed(index: Tensor | None, words: Tensor | None) -> Tensor | None:
    """What says which entries a query sees: numbers or marks, [B * S, n]."""
    return index if words is None else words.view(-1, words.shape[-1])


def _places(q: Tensor, first: int) -> Places:
    B, S = q.shape[:2]
    token = torch.arange(B * S, dtype=torch.int32, device=q.device)
    return Places(token // S, token % S + first)


def _row_of(table: tuple[tuple[int, int, int, int, int], ...], q: Tensor) -> tuple[int, int, int, int, int]:
    return _FP32 if q.dtype == torch.float32 else next(row for row in table if q.shape[-1] <= row[0])


def _config(table: tuple[tuple[int, int, int, int, int], ...], q: Tensor, *, packed: bool) -> Config:
    """Few heads make room for several queries, unless each has picks of its own."""
    _, block_m, block_k, warps, stages = _row_of(table, q)
    heads = triton.next_power_of_2(q.shape[2])
    queries = max(1, block_m // heads) if packed else 1
    block_h = block_m // queries if packed else max(16, min(block_m, heads))
    return Config(block_h, block_k, queries, 1, warps, stages)


def _check(
    q: Tensor, window_rows: Tensor, sink: Tensor, rows: Tensor | None, selection: Selection | None, window: int
) -> None:
    """ValueError for what the kernels would read wrongly."""
    B, S, H, K = q.shape
    if q.dtype not in (torch.bfloat16, torch.float32) or not 1 <= K <= 512:
        raise ValueError(f"q is {q.dtype} with {K} channels; it must be BF16 or FP32 with 1 to 512")
    if window_rows.dim() != 3 or window_rows.shape[::2] != (B, K) or window_rows.shape[1] < S:
        raise ValueError(f"window_rows is {tuple(window_rows.shape)}; it must be [{B}, at least {S}, {K}]")
    if sink.shape != (H,):
        raise ValueError(f"sink is {tuple(sink.shape)}; it must be [{H}]")
    if window < 1:
        raise ValueError(f"window is {window}; it must be at least 1")
    if rows is None:
        return
    if rows.dim() != 3 or rows.shape[::2] != (B, K):
        raise ValueError(f"rows is {tuple(rows.shape)}; it must be [{B}, C, {K}]")
    if not isinstance(selection, Causal | Picked | Marked):
        raise ValueError(f"selection is {type(selection).__name__}; rows need Causal, Picked or Marked")
    if isinstance(selection, Picked) and selection.index.shape[:2] != (B, S):
        raise ValueError(f"selection.index is {tuple(selection.index.shape)}; it must be [{B}, {S}, k]")
    if isinstance(selection, Marked) and (
        selection.count != rows.shape[1] or selection.words.shape != (B, S, -(-selection.count // WORD))
    ):
        raise ValueError(
            f"selection marks {selection.count} entries in {tuple(selection.words.shape)} words; "
            f"there are {rows.shape[1]} of {B} x {S} queries"
        )
    if isinstance(selection, Causal) and selection.offset is not None and selection.offset.requires_grad:
        raise ValueError("selection.offset requires a gradient; it has none here")
