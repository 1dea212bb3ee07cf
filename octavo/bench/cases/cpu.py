"""The loops of the CPU at the shapes of octavo-xs, FP32: index scan, exact and in two levels, attention, experts.

Covers: one sequence; a chunk of tokens as in reading, and the scan of a decoded token at 1M tokens. The peers are the
same results by torch operations. Inputs of a token that fit the processor's cache are left out: no bound from memory
would mean anything for them. FLOPs and bytes: 2 a product and sum; entries, keys and weights once each.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from octavo.bench.case import Case, Result, Work
from octavo.kernels import dispatch
from octavo.kernels.experts import experts, fast
from octavo.kernels.index_topk import Levels, index_scores, index_topk, packed, scan, two_level_topk
from octavo.kernels.rows import DenseRows
from octavo.kernels.selection import Picked
from octavo.kernels.sparse_attention import sparse_attention
from octavo.kernels.sparse_attention.tiled import tiled_attention

_WINDOW = 128
_RATIO = 4


def cases() -> list[Case]:
    """Tiny and full cases."""
    return [
        _index("cpu token tiny", queries=1, entries=300, k=16, size="tiny"),
        _index("cpu chunk tiny", queries=20, entries=300, k=16, size="tiny"),
        _index("cpu token at 1M", queries=1, entries=2**18, k=128, size="full"),
        _index("cpu chunk of 256 at 64K", queries=256, entries=2**14, k=128, size="full", headline=11),
        _two_levels("cpu two levels tiny", queries=20, entries=300, k=16, blocks=32, size="tiny"),
        _two_levels("cpu two levels, chunk of 256 at 1M", queries=256, entries=2**18, k=128, blocks=1024, size="full"),
        _attention("cpu chunk tiny", queries=20, entries=64, k=8, size="tiny"),
        _attention("cpu chunk of 1024", queries=1024, entries=2**14, k=128, size="full"),
        _experts("cpu chunk tiny", tokens=20, width=16, size="tiny"),
        _experts("cpu chunk of 1024", tokens=1024, width=96, size="full"),
    ]


def _draw(device: torch.device, seed: int, *shapes: tuple[int, ...]) -> list[Tensor]:
    generator = torch.Generator(device).manual_seed(seed)
    return [torch.randn(shape, generator=generator, device=device) for shape in shapes]


@torch.no_grad()
def _reference(run: Any, **inputs: Any) -> Result:
    with dispatch.use(dispatch.Body.REFERENCE):
        return run(**inputs)


def _index(
    name: str, *, queries: int, entries: int, k: int, size: Literal["tiny", "full"], headline: int | None = None
) -> Case:
    I, J = 4, 64

    def inputs(device: torch.device) -> dict[str, Any]:
        q, w, keys = _draw(device, 1, (1, queries, I, J), (1, queries, I), (1, entries, J))
        return {"q": q, "w": w, "keys": DenseRows(keys)}

    @torch.no_grad()
    def run(q: Tensor, w: Tensor, keys: DenseRows) -> Tensor:
        return index_topk(q, w, keys, first=_RATIO * entries, ratio=_RATIO, k=k)

    @torch.no_grad()
    def stored(q: Tensor, w: Tensor, keys: DenseRows) -> Tensor:
        return index_scores(q, w, keys.values_BCK).topk(k).indices

    work = Work(flops=2 * queries * entries * I * (J + 1), bytes=4 * entries * J + 8 * queries * k, unit="fp32")
    return _scan(name, inputs, run, work, {"stored scores and torch.topk": stored}, size=size, headline=headline)


def _scan(
    name: str, inputs: Callable[[torch.device], dict[str, Any]], run: Callable[..., Tensor], work: Work,
    peers: dict[str, Callable[..., Result]], *, size: Literal["tiny", "full"], headline: int | None,
) -> Case:  # fmt: skip
    """A case of an index scan."""
    return Case(
        op="index_topk",
        name=name,
        inputs=inputs,
        run=run,
        reference=partial(_reference, run),
        work=work,
        error=_missed,
        tolerance=5e-3,
        peers=peers,
        size=size,
        headline=headline,
        devices=("cpu",),
    )


class _Kept(DenseRows):
    """Rows whose coarse keys are made once, and in four bits where a scan can read these, as a cache keeps them."""

    def __init__(self, values_BCK: Tensor, size: int) -> None:
        super().__init__(values_BCK)
        means = self.means(size)[0].contiguous()
        held = packed.PackedKeys(*means.shape) if scan.packs(self.width, means.dtype, means.device) else None
        if held is not None:
            scan.pack(means, 0, len(means), held)
        self._size = size
        self._coarse = packed.PartRows([packed.Part(means, held, 0)], self.width, means.dtype, means.device)

    def coarse(self, size: int) -> packed.PartRows:
        assert size == self._size
        return self._coarse


def _two_levels(name: str, *, queries: int, entries: int, k: int, blocks: int, size: Literal["tiny", "full"]) -> Case:
    """The index of two levels beside the exact scan: `blocks` blocks of one entry are looked into."""
    I, J, levels = 4, 64, Levels(block=_RATIO, best=blocks)
    per_block, looked = levels.block // _RATIO, blocks * levels.block // _RATIO

    def inputs(device: torch.device) -> dict[str, Any]:
        q, w, keys = _draw(device, 4, (1, queries, I, J), (1, queries, I), (1, entries, J))
        return {"q": q, "w": w, "keys": _Kept(keys, per_block)}

    @torch.no_grad()
    def run(q: Tensor, w: Tensor, keys: DenseRows) -> Tensor:
        return two_level_topk(q, w, keys, first=_RATIO * entries, ratio=_RATIO, k=k, levels=levels)

    @torch.no_grad()
    def exact(q: Tensor, w: Tensor, keys: DenseRows) -> Tensor:
        return index_topk(q, w, keys, first=_RATIO * entries, ratio=_RATIO, k=k)

    coarse, read = entries // per_block, min(queries * looked, entries)
    work = Work(
        flops=2 * queries * (coarse * J + looked * I * (J + 1)),
        bytes=coarse * (J // 2 + 4) + 4 * read * J + 8 * queries * k, unit="fp32",
    )  # fmt: skip
    headline = 12 if size == "full" else None
    return _scan(name, inputs, run, work, {"exact scan": exact}, size=size, headline=headline)


def _missed(got: Result, wanted: Result) -> float:
    """The largest share over queries of picks [1, S, k] that the other choice does not hold."""
    assert isinstance(got, Tensor)
    assert isinstance(wanted, Tensor)
    pairs = zip(got[0].tolist(), wanted[0].tolist(), strict=True)
    return max(1 - len(set(mine) & set(theirs)) / len(theirs) for mine, theirs in pairs)


def _attention(name: str, *, queries: int, entries: int, k: int, size: Literal["tiny", "full"]) -> Case:
    H, K = 4, 128
    rules: dict[str, Any] = {"first": _RATIO * entries, "window": _WINDOW, "scale": K**-0.5}

    def inputs(device: torch.device) -> dict[str, Any]:
        q, near, sink, values, order = _draw(
            device, 2, (1, queries, H, K), (1, _WINDOW - 1 + queries, K), (H,), (1, entries, K), (1, queries, entries)
        )
        return {"q": q, "near": near, "sink": sink, "rows": DenseRows(values), "index": order.topk(k).indices}

    @torch.no_grad()
    def run(q: Tensor, near: Tensor, sink: Tensor, rows: DenseRows, index: Tensor) -> Tensor:
        return sparse_attention(q, near, sink, rows=rows, selection=Picked(index), **rules)[0]

    @torch.no_grad()
    def tiled(q: Tensor, near: Tensor, sink: Tensor, rows: DenseRows, index: Tensor) -> Tensor:
        return tiled_attention(q, near, sink, rows=rows, selection=Picked(index), mass_every=0, **rules)[0]

    def reference(**given: Any) -> Result:
        """The full score matrix, a hundred queries at a time."""
        parts = []
        for start in range(0, queries, 100):
            stop = min(start + 100, queries)
            some = given | {"q": given["q"][:, start:stop], "index": given["index"][:, start:stop]}
            some["near"] = given["near"][:, start : _WINDOW - 1 + stop]
            parts.append(_reference(run, **some))
        return torch.cat(parts, dim=1)

    keys = queries * (k + _WINDOW)
    read = min(queries * k, entries) + _WINDOW - 1 + queries
    return Case(
        op="sparse_attention",
        name=name,
        inputs=inputs,
        run=run,
        reference=reference,
        work=Work(flops=4 * keys * H * K, bytes=4 * (read * K + 2 * queries * H * K), unit="fp32"),
        tolerance=1e-5,
        peers={"torch operations in tiles": tiled},
        size=size,
        devices=("cpu",),
    )


def _experts(name: str, *, tokens: int, width: int, size: Literal["tiny", "full"]) -> Case:
    X, A, D = 8, 2, 256

    def inputs(device: torch.device) -> dict[str, Any]:
        x, w1, w3, w2, order, shares = _draw(
            device, 3, (tokens, D), (X, width, D), (X, width, D), (X, D, width), (tokens, X), (tokens, A)
        )
        w1, w3, w2 = w1 * D**-0.5, w3 * D**-0.5, w2 * width**-0.5
        return {
            "x": x, "w1": w1, "w3": w3, "w2": w2, "chosen": order.topk(A).indices, "weights": shares.softmax(1),
        }  # fmt: skip

    run = torch.no_grad()(partial(experts, limit=10.0))
    grouped = torch.no_grad()(partial(fast.grouped, limit=10.0, round_hidden=lambda hidden: hidden))
    return Case(
        op="experts",
        name=name,
        inputs=inputs,
        run=run,
        reference=partial(_reference, run),
        work=Work(flops=6 * tokens * A * width * D, bytes=4 * (3 * X * width * D + 2 * tokens * D), unit="fp32"),
        tolerance=1e-5,
        peers={"torch operations by expert": grouped},
        size=size,
        devices=("cpu",),
    )
