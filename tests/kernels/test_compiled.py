"""Loops on the CPU: every one against the plain body, one token and many; when they run; work on several threads."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from octavo.kernels import dispatch, hyper
from octavo.kernels.compiled import in_halves
from octavo.kernels.compress import pool
from octavo.kernels.dispatch import Body, use
from octavo.kernels.experts import experts, mlp
from octavo.kernels.hadamard import hadamard
from octavo.kernels.pack import Pack
from octavo.kernels.rmsnorm import rmsnorm
from octavo.kernels.rope import norm_rotate, rope_table, rotate
from octavo.kernels.route import route
from octavo.kernels.rows import DenseRows
from octavo.kernels.selection import Causal, Picked, Selection
from octavo.kernels.sparse_attention import chunk, loops, sparse_attention
from octavo.kernels.wide_linear import wide_linear

HYPER = {"iters": 20, "eps": 1e-6, "norm_eps": 1e-6}


def both(make: Callable[[], Tensor | tuple[Tensor, ...]]) -> None:
    """What the loops make is what the plain bodies make."""
    with torch.no_grad():
        found = make()
        with use(Body.REFERENCE):
            expected = make()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=2e-6)


@pytest.fixture(params=[1, 3, 70])
def T(request: pytest.FixtureRequest) -> int:
    torch.manual_seed(0)
    return request.param


def test_stream_mixing(T: int) -> None:
    streams, y = torch.randn(T, 4, 32), torch.randn(T, 32)
    fn, base, scale = torch.randn(24, 128) * 0.1, torch.randn(24), torch.rand(3) + 0.5
    both(lambda: hyper.mix(streams, fn, base, scale, **HYPER))
    gain = torch.rand(32)
    both(lambda: hyper.enter(streams, fn, base, scale, gain, **HYPER))
    both(lambda: hyper.enter(y.unsqueeze(1).expand(-1, 4, -1), fn, base, scale, gain, **HYPER))
    pack = Pack.of(fn, base, scale, gain)
    both(lambda: hyper.begin(y.unsqueeze(1).expand(-1, 4, -1), pack, **HYPER))
    post, comb = torch.rand(T, 4), torch.rand(T, 4, 4)
    both(lambda: hyper.cross(streams, y, post, comb, pack, **HYPER))
    both(lambda: hyper.cross(y.unsqueeze(1).expand(-1, 4, -1), y, post, comb, pack, **HYPER))
    head = Pack.of(torch.randn(4, 128) * 0.1, torch.randn(4), torch.rand(1) + 0.5, gain)
    both(lambda: hyper.finish(streams, head, eps=1e-6, norm_eps=1e-6))
    pre, post, comb = torch.rand(T, 4), torch.rand(T, 4), torch.rand(T, 4, 4)
    both(lambda: hyper.read(streams, pre))
    both(lambda: hyper.write(streams, y, post, comb))
    both(lambda: hyper.write(y.unsqueeze(1).expand(-1, 4, -1), y, post, comb))


def test_norm_and_rotation(T: int) -> None:
    x, weight = torch.randn(T, 3, 16), torch.randn(16)
    cos, sin = rope_table(torch.arange(T) * 1000, torch.tensor([1.0, 0.1, 0.003, 0.5], dtype=torch.float64))
    wide = cos.unsqueeze(1), sin.unsqueeze(1)
    both(lambda: rmsnorm(x, weight, 1e-6))
    both(lambda: rmsnorm(x, None, 1e-6))
    both(lambda: rmsnorm(x, torch.ones(3, 16), 1e-6))
    both(lambda: rotate(x, *wide))
    both(lambda: rotate(x, *wide, inverse=True))
    both(lambda: rotate(x[:, 0].unsqueeze(0), cos.unsqueeze(0), sin.unsqueeze(0)))
    both(lambda: rotate(torch.stack((x[:, 0], x[:, 1])), cos.unsqueeze(0), sin.unsqueeze(0)))  # no run of rows: plain
    both(lambda: norm_rotate(x, None, *wide, eps=1e-6))
    both(lambda: norm_rotate(x, weight, *wide, eps=1e-6))


@pytest.mark.parametrize(("overlap", "has_previous"), [(False, False), (True, False), (True, True)])
def test_pooling(T: int, overlap: bool, has_previous: bool) -> None:
    rows = torch.randn(2, 4 * (T + has_previous), 24)
    values, scores = rows[..., :12], rows[..., 12:] * 5
    both(lambda: pool(values, scores, ratio=4, overlap=overlap, has_previous=has_previous))


def test_several_products_side_by_side(T: int) -> None:
    x, weights = torch.randn(T, 8), (torch.randn(5, 8), torch.randn(3, 8), torch.randn(8, 4).T)
    with torch.no_grad():
        torch.testing.assert_close(wide_linear(x, *weights), x @ torch.cat(weights).T)


@pytest.mark.parametrize("width", [1, 2, 64])
def test_hadamard(T: int, width: int) -> None:
    x = torch.randn(T, 3, width)
    both(lambda: hadamard(x))


@pytest.mark.parametrize("normalise", [True, False])
def test_routing_with_ties(T: int, normalise: bool) -> None:
    x, gate = torch.randint(-1, 2, (T, 4)).float(), torch.randint(-1, 2, (6, 4)).float()
    bias = torch.randint(0, 2, (6,)).float()
    for chosen in (None, torch.randint(0, 6, (T, 2))):
        both(lambda c=chosen: tuple(
            route(x, gate, top=2, scale=1.5, normalise=normalise, bias=bias if c is None else None, table_rows=c)
        ))  # fmt: skip
    both(lambda: tuple(route(x, gate, top=3, scale=1.0, normalise=normalise)))


@pytest.mark.parametrize("limit", [None, 0.3])
def test_chosen_experts(T: int, limit: float | None) -> None:
    x, w1, w3, w2 = torch.randn(T, 8), torch.randn(5, 12, 8), torch.randn(5, 12, 8), torch.randn(5, 8, 12) * 0.2
    chosen, weights = torch.randint(0, 5, (T, 2)), torch.rand(T, 2)
    both(lambda: experts(x, w1, w3, w2, chosen=chosen, weights=weights, limit=limit))
    both(lambda: mlp(x, w1[0], w3[0], w2[0], limit=limit))
    chosen, weights = torch.randint(0, 4, (T, 3)), torch.rand(T, 3)  # nobody goes to the last expert
    both(lambda: experts(x, w1, w3, w2, chosen=chosen, weights=weights, limit=limit))


@pytest.mark.parametrize("kind", ["window", "all", "offset", "listed", "listed apart"])
@pytest.mark.parametrize("past", [0, 9])
@pytest.mark.parametrize("H", [2, 5])
def test_attention(T: int, past: int, kind: str, H: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunk, "_ELEMENTS", 10_000)  # runs of some blocks
    first, C = past + 20, (past + 20 + T) // 4
    q, rows, sink = torch.randn(1, T, H, 8), torch.randn(1, past + T, 8), torch.randn(H)
    values = torch.randn(1, C, 8)
    entries = DenseRows(values.double() if kind == "listed apart" else values)
    index = torch.stack([torch.randperm(C)[:4] for _ in range(T)]).unsqueeze(0)
    index[:, ::3, 2:] = -1
    kinds: dict[str, Selection | None] = {"window": None, "all": Causal(4), "offset": Causal(4, torch.tensor([1.5]))}
    selection = kinds.get(kind, Picked(index))

    def run() -> tuple[Tensor, ...]:
        held = DenseRows(entries.values_BCK.float()) if dispatch.body() is Body.REFERENCE else entries
        o, mass = sparse_attention(
            q, rows, sink, first=first, window=7, scale=0.5, rows=None if selection is None else held,
            selection=selection, mass_every=1,
        )  # fmt: skip
        return (o,) if mass is None else (o, mass)

    both(run)


def test_attention_where_windows_begin_before_the_first_token() -> None:
    q, rows, sink, values = torch.randn(1, 90, 4, 8), torch.randn(1, 90, 8), torch.randn(4), torch.randn(1, 3, 8)
    call = {"first": 0, "scale": 0.5, "rows": DenseRows(values), "selection": Causal(32), "mass_every": 2}
    for window in (1, 7, 200):
        both(lambda window=window: sparse_attention(q, rows, sink, window=window, **call))  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("chunked", [False, True])
def test_attention_gives_the_same_bits_wherever_entries_lie(chunked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loops, "_GATHERED", 32)
    monkeypatch.setattr(chunk, "_MOST", 32)
    monkeypatch.setattr(chunk, "_LEAST", 16 if chunked else 100)
    q, rows, sink, values = torch.randn(1, 70, 2, 8), torch.randn(1, 79, 8), torch.randn(2), torch.randn(1, 20, 8)
    index = torch.stack([torch.randperm(20)[:4] for _ in range(70)]).unsqueeze(0)
    call = {"first": 29, "window": 7, "scale": 0.5, "selection": Picked(index), "mass_every": 1}
    with torch.no_grad():
        one, one_mass = sparse_attention(q, rows, sink, rows=DenseRows(values), **call)
        other, other_mass = sparse_attention(q, rows, sink, rows=DenseRows(values.double()), **call)
    assert torch.equal(one, other)
    assert one_mass is not None
    assert other_mass is not None
    assert torch.equal(one_mass, other_mass)


def test_loops_run_without_gradients_only() -> None:
    x = torch.ones(2)
    assert not dispatch.loops_on_cpu(x)
    with torch.no_grad():
        assert dispatch.loops_on_cpu(x)
        assert dispatch.loops_on_cpu(x, tokens=8)
        assert not dispatch.loops_on_cpu(x, tokens=9)
        assert not dispatch.loops_on_cpu(x.double())
        assert not dispatch.loops_on_cpu(x[:0])
        with use(Body.REFERENCE):
            assert not dispatch.loops_on_cpu(x)


def test_parts_cover_everything_once_and_errors_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    done: list[tuple[int, int]] = []
    threads: set[int] = set()

    def part(start: int, stop: int) -> None:
        threads.add(threading.get_ident())
        done.append((start, stop))

    in_halves(part, 101)
    assert sorted(done) == [(0, 50), (50, 101)]
    assert len(threads) == 2
    in_halves(part, 20)
    assert done[-1] == (0, 20)

    def failing(start: int, stop: int) -> None:
        if start:
            raise ValueError("second part")

    with pytest.raises(ValueError, match="second part"):
        in_halves(failing, 101)


HISTORY = """
import hashlib, sys
import numpy as np
from octavo.kernels.sparse_attention import chunk, heads
draw = np.random.default_rng(0)
q, entries = draw.standard_normal((64, 4, 128), np.float32), draw.standard_normal((300, 128), np.float32)
near, sink = draw.standard_normal((64, 4, 159), np.float32), draw.standard_normal(4, np.float32)
index = np.stack([draw.permutation(300)[:128] for _ in range(64)])
if sys.argv[1] == "parts first":
    heads.logits_of(q[0], entries, index[0], np.float32(0.1), np.empty((4, 128), np.float32))
    chunk._softmax(near[0, 0].copy(), near[0, 1].copy(), sink[0])
mass, out = np.zeros((64, 128), np.float32), np.zeros((64, 4, 128), np.float32)
chunk._soften_listed(q, near, entries, index, sink, np.float32(0.1), 32, 128, 0, mass, out, 0, 64)
print(hashlib.sha256(near.tobytes() + mass.tobytes() + out.tobytes()).hexdigest())
"""


def test_bits_do_not_depend_on_what_was_compiled_or_loaded_before(tmp_path: Path) -> None:
    """Compiled here, loaded from the cache, and loaded behind functions of which it has its own copy."""
    made = set()
    for order in ("whole first", "whole first", "parts first"):
        ran = subprocess.run(
            [sys.executable, "-c", HISTORY, order], check=True, capture_output=True, text=True,
            env=os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)},
        )  # fmt: skip
        made.add(ran.stdout)
    assert len(made) == 1
