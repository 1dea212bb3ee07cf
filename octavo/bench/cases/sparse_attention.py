"""Attention to window, entries and sink: decoding, chunks of reading, training.

Covers: `attend` over FP8 and FP4 rows in pages (Flash: 64 heads of 512 channels, window 128, 512 picks of a 4:1 store
or all of a 128:1 store), `attend_rows` with its gradients, and tiny cases of both. The reference gathers every key of a
query and takes one softmax in FP32, for eight queries where there are many. Does not cover: the choice of picks
(`index_topk`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from octavo.bench import flash_mla
from octavo.bench.case import Case, Result, Work, relative_l2
from octavo.bench.ratios import PUBLIC
from octavo.kernels.paged import PAGE_TOKENS, Format, PagedStore, Places, Ring
from octavo.kernels.quant import decode_main_fp4, decode_rows_fp8, encode_main_fp4, encode_rows_fp8
from octavo.kernels.rows import DenseRows
from octavo.kernels.selection import Causal, Picked, Selection
from octavo.kernels.sparse_attention.flex import flex_attention_of_rows
from octavo.kernels.sparse_attention.ref import reference_attention
from octavo.kernels.sparse_attention.triton import attend, ring_format
from octavo.kernels.sparse_attention.triton_training import attend_rows

_ROWS = 1 << 18  # rows encoded at once
_KEYS = 1 << 17  # keys that the plain form gathers at once
_CHECKED = 8  # queries of a large case that are compared


def cases() -> list[Case]:
    """Tiny cases of every format and selection; full ones for an H100."""
    tiny = partial(_step, size="tiny", H=4, window=16, ring=32, dtype=torch.float32)
    made = [
        tiny("picks-fp8", [5, 70], [2, 3], K=32, rope=16, form="fp8", ratio=4, k=8),
        tiny("all-fp8", [300], [3], K=64, rope=16, form="fp8", ratio=128, k=0),
        tiny("picks-fp4", [5, 70], [2, 3], K=32, rope=16, form="fp4", ratio=4, k=8),
        tiny("all-fp4", [300], [3], K=64, rope=16, form="fp4", ratio=128, k=0),
        tiny("picks-bf16", [130], [2], K=32, rope=0, form="bf16", ratio=4, k=8),
        tiny("all-fp32", [40, 9], [1, 2], K=16, rope=0, form="fp32", ratio=4, k=0),
        _training("tiny", "picks", B=1, S=5, H=2, K=16, window=4, ratio=2, k=2),
        _training("tiny", "all", B=2, S=9, H=2, K=16, window=4, ratio=4, k=0),
    ]
    flash = partial(_step, size="full", H=64, K=512, rope=64, form="fp8", window=128, dtype=torch.bfloat16)
    for batch, context in ((1, 8192), (8, 8192), (32, 8192), (64, 8192), (1, 131072), (32, 131072), (1, 1048576)):
        name = f"batch {batch}, {context // 1024}K"
        at, one = [context - 1] * batch, [1] * batch
        headline = 2 if (batch, context) == (32, 8192) else None
        made.append(flash(f"decode picks, {name}", at, one, ratio=4, k=512, ring=256, headline=headline))
        made.append(flash(f"decode all 128:1, {name}", at, one, ratio=128, k=0, ring=256))
    small = partial(flash, form="fp4", ratio=4, k=512)
    for batch, context in ((1, 8192), (32, 8192), (32, 131072)):
        name, at = f"decode picks in fp4, batch {batch}, {context // 1024}K", [context - 1] * batch
        made.append(small(name, at, [1] * batch, ring=256))
    made.append(small("chunk 4096 at 124K, picks in fp4", [126976], [4096], ring=8192))
    made.append(flash("verify 4, batch 8, 128K, picks", [131068] * 8, [4] * 8, ratio=4, k=512, ring=256))
    for start in (4096, 126976):
        name = f"chunk 4096 at {start // 1024}K"
        headline = 1 if start == 4096 else None
        made.append(flash(f"{name}, picks", [start], [4096], ratio=4, k=512, ring=8192, headline=headline))
        made.append(flash(f"{name}, all 128:1", [start], [4096], ratio=128, k=0, ring=8192))
    made.append(_training("full", "all 128:1", B=4, S=4096, H=4, K=128, window=128, ratio=128, k=0))
    made.append(_training("full", "picks", B=4, S=4096, H=4, K=128, window=128, ratio=4, k=128))
    return made


def _step(
    name: str, starts: Sequence[int], counts: Sequence[int], *, size: Any, H: int, K: int, rope: int, form: Format,
    ratio: int, k: int, window: int, ring: int, dtype: torch.dtype, headline: int | None = None,
) -> Case:  # fmt: skip
    """The next counts[b] tokens of sequences of starts[b] tokens; k picks each, or (0) all entries."""
    ends = [p + 1 for s, n in zip(starts, counts, strict=True) for p in range(s, s + n)]
    far = [e // ratio if k == 0 else min(k, e // ratio) for e in ends]
    near = [min(e, window) for e in ends]
    row, window_row = (_encode(torch.zeros(1, K), kind, rope).shape[1] for kind in (form, ring_format(form)))
    # A row is read once by a step, however many of its queries see it.
    tokens = min(sum(min(s, window) + n for s, n in zip(starts, counts, strict=True)), sum(near))
    entries = min(sum((s + n) // ratio for s, n in zip(starts, counts, strict=True)), sum(far))
    width = torch.finfo(dtype).bits // 8
    moved = tokens * window_row + entries * row + 2.0 * width * len(ends) * H * K
    work = Work(flops=4.0 * H * K * (sum(near) + sum(far)), bytes=moved)
    make = partial(
        _inputs, starts=list(starts), counts=list(counts), H=H, K=K, rope=rope, form=form, ratio=ratio, k=k,
        window=window, ring=ring, dtype=dtype,
    )  # fmt: skip
    peers: dict[str, Callable[..., Any]] = {} if size == "tiny" else {"gathered, torch": _plain}
    chunks = len(starts) == 1 or len(ends) == len(starts)  # one sequence's chunk, or one token of each
    if flash_mla.installed() and form == "fp8" and (K, rope) == (512, 64) and H in flash_mla.HEADS and chunks:
        peers[f"{PUBLIC}FlashMLA"] = flash_mla.FlashMLA(_plain)
    return Case(
        op="sparse_attention", name=name, inputs=make, run=_run, reference=_reference, work=work, size=size,
        tolerance=1e-5 if dtype == torch.float32 else 3e-3, error=_error, headline=headline, peers=peers,
    )  # fmt: skip


def _inputs(
    device: torch.device, *, starts: list[int], counts: list[int], H: int, K: int, rope: int, form: Format, ratio: int,
    k: int, window: int, ring: int, dtype: torch.dtype,
) -> dict[str, Any]:  # fmt: skip
    gen = torch.Generator(device).manual_seed(0)
    places = Places.of(starts, counts, device)
    B, T, per_page = len(starts), len(places.position), PAGE_TOKENS // ratio
    pages = -(-max(s + n for s, n in zip(starts, counts, strict=True)) // PAGE_TOKENS)
    table = torch.randperm(B * pages, generator=gen, device=device).view(B, pages).int()
    encode = partial(_encoded, K=K, rope=rope, gen=gen, device=device)
    store = PagedStore(encode(B * pages * per_page, form=form), table, ratio, K, form, rope)
    picks = None
    if k:
        score = torch.rand(T, pages * per_page, generator=gen, device=device)
        seen = torch.arange(pages * per_page, device=device) < ((places.position + 1) // ratio).unsqueeze(1)
        best = score.masked_fill_(~seen, -1).topk(min(k, pages * per_page), dim=1)
        picks = best.indices.int().masked_fill(best.values < 0, -1)
    return {
        "q": torch.randn(T, H, K, generator=gen, device=device).to(dtype),
        "ring": Ring(encode(B * ring, form=ring_format(form)).view(B, ring, -1)),
        "sink": torch.randn(H, generator=gen, device=device),
        "store": store,
        "places": places,
        "picks": picks,
        "window": window,
    }


def _encoded(n: int, *, K: int, rope: int, form: Format, gen: torch.Generator, device: torch.device) -> Tensor:
    """n rows of normal numbers as bytes."""
    parts = []
    for start in range(0, n, _ROWS):
        x = torch.randn(min(_ROWS, n - start), K, generator=gen, device=device)
        parts.append(_encode(x, form, rope))
    return torch.cat(parts)


def _encode(x: Tensor, form: Format, rope: int) -> Tensor:
    if form in ("fp8", "fp4"):
        return encode_rows_fp8(x, rope) if form == "fp8" else encode_main_fp4(x, rope)
    return (x.bfloat16() if form == "bf16" else x).view(torch.uint8)


def _run(q: Tensor, ring: Ring, sink: Tensor, store: PagedStore, places: Places, picks: Any, window: int) -> Tensor:
    return attend(q, ring, sink, store, places, picks=picks, window=window, scale=q.shape[-1] ** -0.5)[0]


def _checked(T: int) -> list[int]:
    return sorted({i * (T - 1) // (_CHECKED - 1) for i in range(_CHECKED)})


def _error(got: Result, wanted: Result) -> float:
    assert isinstance(got, Tensor)
    return relative_l2(got[_checked(len(got))], wanted)


def _reference(
    q: Tensor, ring: Ring, sink: Tensor, store: PagedStore, places: Places, picks: Any, window: int
) -> Tensor:
    some = torch.tensor(_checked(len(q)), device=q.device)
    return _gathered(q.float(), ring, sink, store, places, picks, window, some)


def _plain(q: Tensor, ring: Ring, sink: Tensor, store: PagedStore, places: Places, picks: Any, window: int) -> Tensor:
    """Every query's keys gathered, decoded and multiplied by torch, in pieces of queries."""
    n = window + (store.table.shape[1] * store.per_page if picks is None else picks.shape[1])
    pieces = torch.arange(len(q), device=q.device).split(max(1, _KEYS // n))
    return torch.cat([_gathered(q, ring, sink, store, places, picks, window, some) for some in pieces])


def _gathered(
    q: Tensor, ring: Ring, sink: Tensor, store: PagedStore, places: Places, picks: Any, window: int, some: Tensor
) -> Tensor:  # fmt: skip
    """Outputs of the queries `some`, products in q's dtype."""
    b, p = places.sequence[some].long(), places.position[some].long()
    token = p.unsqueeze(1) - torch.arange(window, device=q.device)
    near = ring.rows[b.unsqueeze(1), token % ring.length]
    if picks is None:
        entry = torch.arange(store.table.shape[1] * store.per_page, device=q.device).expand(len(some), -1)
        entry = entry.where(entry < ((p + 1) // store.ratio).unsqueeze(1), -1)
    else:
        entry = picks[some].long()
    page = store.table[b.unsqueeze(1), entry.clamp_min(0) // store.per_page].long()
    far = store.rows[page * store.per_page + entry.clamp_min(0) % store.per_page]
    seen = torch.cat((token >= 0, entry >= 0), dim=1)
    keys = torch.cat((_decoded(near, store, ring_format(store.format)), _decoded(far, store, store.format)), dim=1)
    keys = keys.to(q.dtype)
    logits = torch.einsum("thk,tnk->thn", q[some], keys).float() * q.shape[-1] ** -0.5
    logits = logits.masked_fill(~seen.unsqueeze(1), -torch.inf)
    level = sink.view(1, -1, 1).expand(len(some), -1, 1)
    weights = torch.cat((logits, level), dim=-1).softmax(-1)[..., :-1]
    return torch.einsum("thn,tnk->thk", weights.to(q.dtype), keys)


def _decoded(rows: Tensor, store: PagedStore, form: Format) -> Tensor:
    flat = rows.reshape(-1, rows.shape[-1])
    if form in ("fp8", "fp4"):
        values = (decode_rows_fp8 if form == "fp8" else decode_main_fp4)(flat, store.width, store.rope)
    else:
        values = flat.view(torch.bfloat16 if form == "bf16" else torch.float32)
    return values.view(*rows.shape[:-1], store.width)


def _training(size: Any, name: str, *, B: int, S: int, H: int, K: int, window: int, ratio: int, k: int) -> Case:
    """Forward and backward pass of whole rows; forward 2, backward 5 products."""
    seen = sum(min(t, window) + (min(k, t // ratio) if k else t // ratio) for t in range(1, S + 1)) * B
    dtype = torch.float32 if size == "tiny" else torch.bfloat16
    width = torch.finfo(dtype).bits // 8
    # Queries, outputs and their gradients; window rows and entries twice, with their gradients.
    moved = width * B * K * (6.0 * S * H + 3.0 * (S + S // ratio))
    make = partial(_rows, B=B, S=S, H=H, K=K, ratio=ratio, k=k, dtype=dtype)
    options = {"first": 0, "window": window, "scale": K**-0.5}
    peers: dict[str, Callable[..., Any]] = {}
    if size == "full" and not k:
        peers["flex attention"] = partial(_gradients, partial(_by_rows, flex_attention_of_rows, options))
    return Case(
        op="sparse_attention", name=f"training, {name}", inputs=make, size=size, peers=peers,
        run=partial(_gradients, partial(attend_rows, **options)),
        reference=partial(_exact, partial(_by_rows, reference_attention, options)),
        work=Work(flops=14.0 * H * K * seen, bytes=moved), tolerance=1e-4 if size == "tiny" else 2e-2,
    )  # fmt: skip


def _rows(
    device: torch.device, *, B: int, S: int, H: int, K: int, ratio: int, k: int, dtype: torch.dtype
) -> dict[str, Any]:
    gen = torch.Generator(device).manual_seed(0)
    shapes = ((B, S, H, K), (B, S, K), (B, S // ratio, K), (B, S, H, K))
    q, near, far, g = (torch.randn(shape, generator=gen, device=device).to(dtype) for shape in shapes)
    selection: Selection = Causal(ratio)
    if k:
        score = torch.rand(B, S, S // ratio, generator=gen, device=device)
        token = torch.arange(1, S + 1, device=device)
        seen = torch.arange(S // ratio, device=device) < (token // ratio).unsqueeze(1)
        best = score.masked_fill_(~seen, -1).topk(k)
        selection = Picked(best.indices.masked_fill(best.values < 0, -1))
    sink = torch.randn(H, generator=gen, device=device)
    return {"q": q, "near": near, "sink": sink, "far": far, "selection": selection, "g": g}


def _by_rows(body: Callable[..., Any], options: dict[str, Any], q: Tensor, near: Tensor, sink: Tensor, far: Tensor,
             selection: Selection) -> Tensor:  # fmt: skip
    return body(q, near, sink, rows=DenseRows(far), selection=selection, mass_every=0, **options)[0]


def _gradients(
    body: Callable[..., Tensor], q: Tensor, near: Tensor, sink: Tensor, far: Tensor, selection: Selection, g: Tensor
) -> tuple[Tensor, ...]:
    """Output and gradients of queries, window rows, sinks and entries."""
    leaves = [x.detach().requires_grad_() for x in (q, near, sink, far)]
    with torch.enable_grad():
        out = body(*leaves, selection)
    return out.detach(), *torch.autograd.grad(out, leaves, g)


def _exact(
    body: Callable[..., Tensor], q: Tensor, near: Tensor, sink: Tensor, far: Tensor, selection: Selection, g: Tensor
) -> tuple[Tensor, ...]:
    """The same in FP32, a sequence at a time: the reference holds all scores."""
    parts = []
    for b in range(len(q)):
        chosen = Picked(selection.index[b : b + 1]) if isinstance(selection, Picked) else selection
        one = (x[b : b + 1].float() for x in (q, near, far, g))
        q1, near1, far1, g1 = one
        parts.append(_gradients(body, q1, near1, sink, far1, chosen, g1))
    out, dq, dnear, dsink, dfar = zip(*parts, strict=True)
    return torch.cat(out), torch.cat(dq), torch.cat(dnear), torch.stack(dsink).sum(0), torch.cat(dfar)
