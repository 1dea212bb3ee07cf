"""Attention over a sliding window and compressed entries, with one sink logit a head and shared keys and values.

Contract (report, attention section):
`sparse_attention(q [B, S, H, K], window_rows [B, N, K], sink [H], *, first, window, scale, rows=None, selection=None,
mass_every=0, begin=None) -> (o [B, S, H, K], mass or None)`.
Query s is token first + s. `window_rows` ends with the rows of the S query tokens (N >= S, older ones before them);
query s sees the rows of tokens max(first + s - window + 1, first - (N - S)) .. first + s, and of these only from
`begin[:, s]` on where `begin` (int32 [B, S], <= first + s) is given. `selection` chooses among `rows`:
`Causal(ratio, offset, bounds)` = all entries w < (first + s + 1) // ratio, or those within `bounds`, with `offset`
added to their logits; `Picked(index [B, S, k])` = the listed entries, distinct per query, -1 ignored;
`Masked(seen [B, S, C])` and `Marked(words, C, ratio)` = the marked ones. One softmax runs over window, entries and the
sink; the sink is not scaled and has no value. `mass` is the probability summed over heads, detached, of queries n - 1,
2n - 1, .. for `mass_every` = n (0: none): [B, S // n, k] for Picked, else [B, S // n, C].
Logits are products in q's dtype, the softmax keeps the row maximum exact. Memory is bounded by blocks of queries; rows
are never repeated over heads. Not in place. S >= 1. Bodies, and which calls they serve, are in the README beside this.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from octavo.kernels import dispatch
from octavo.kernels.rows import Rows
from octavo.kernels.selection import Causal, Marked, Masked, Picked, Selection
from octavo.kernels.sparse_attention import chunk, compiled, flex, loops, pieces, training
from octavo.kernels.sparse_attention.ref import reference_attention
from octavo.kernels.sparse_attention.tiled import tiled_attention


def sparse_attention(
    q: Tensor,
    window_rows: Tensor,
    sink: Tensor,
    *,
    first: int,
    window: int,
    scale: float,
    rows: Rows | None = None,
    selection: Selection | None = None,
    mass_every: int = 0,
    begin: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    """See the package docstring for the contract."""
    if rows is None or rows.length == 0:
        rows = selection = None
    if isinstance(selection, Marked) and not dispatch.trains_in_triton(q, "sparse_attention"):
        selection = Masked(selection.of(slice(None)))
    if begin is not None:
        return _of_documents(q)(
            q, window_rows, sink, first=first, window=window, scale=scale, rows=rows, selection=selection,
            mass_every=mass_every, begin=begin,
        )  # fmt: skip
    if dispatch.body() is dispatch.Body.REFERENCE:
        chosen = reference_attention
    elif dispatch.trains_in_triton(q, "sparse_attention") and training.fits(q, selection):
        chosen = training.attend
    elif dispatch.trains_on_gpu(q) and flex.fits(q, window_rows, first=first, selection=selection):
        chosen = flex.flex_attention_of_rows
    elif dispatch.loops_on_cpu(q) and chunk.fits(q, window_rows, selection):
        chosen = chunk.attend
    elif compiled.fits(q, window_rows, sink, selection):
        chosen = compiled.attend
    elif dispatch.loops_on_cpu(q) and loops.fits(q, window_rows, selection):
        chosen = pieces.attend if isinstance(selection, Causal) else loops.attend
    else:
        chosen = tiled_attention
    return chosen(
        q,
        window_rows,
        sink,
        first=first,
        window=window,
        scale=scale,
        rows=rows,
        selection=selection,
        mass_every=mass_every,
    )


def _of_documents(q: Tensor) -> Any:
    """The body for rows of several documents."""
    if dispatch.body() is dispatch.Body.REFERENCE:
        return reference_attention
    in_triton = dispatch.trains_in_triton(q, "sparse_attention") and training.fits(q, None)
    return training.attend if in_triton else tiled_attention


__all__ = ["Causal", "Marked", "Masked", "Picked", "Selection", "sparse_attention"]
