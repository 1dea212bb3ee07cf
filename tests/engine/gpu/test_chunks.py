"""Chunks that are captured: few numbers of rows, nothing of a slot lost where one fails, idle ones write nothing."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
import torch

from octavo.cache.view import Controls
from octavo.engine.gpu.chunks import ROWS, padded
from octavo.engine.gpu.runner import GpuRunner
from octavo.engine.gpu.state import GpuState
from octavo.engine.runner import Runner
from octavo.model.transformer import Transformer
from tests.support.gpu_world import after, begun, close, gpu_runner, interrupted, plain_runner, small_model, some_ids


@pytest.fixture(scope="module")
def wide() -> Transformer:
    """A window layer, a CSA and an HCA layer."""
    return small_model(num_hidden_layers=3, compress_ratios=(0, 4, 128))


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks begin at five tokens and are run as eight rows: a row is a launch of the interpreter."""
    monkeypatch.setattr("octavo.engine.gpu.runner._FEW", 4)
    monkeypatch.setattr("octavo.engine.gpu.chunks._LEAST", 8)


def test_rows_of_a_chunk_are_few_numbers() -> None:
    assert [padded(n) for n in (1, 17, 33, 129, 256, 257, 600, 1024, 1100)] == [
        8, 32, 64, 256, 256, 512, 768, 1024, 1280
    ]  # fmt: skip
    assert len({padded(n) for n in range(17, 1025)}) == 7


def test_a_chunk_goes_on_from_any_slot_wherever_it_begins(wide: Transformer, ids: np.ndarray) -> None:
    """Two sequences in two slots, from nothing, and across an HCA entry and a page."""
    plain, fast = plain_runner(wide), gpu_runner(wide, slots=2)
    lengths = ((0, 5), (252, 7))
    for first, count in lengths:
        states = [begun(fast, ids[:first]), begun(fast, ids[5 : 5 + first])]
        wanted = [begun(plain, ids[:first]), begun(plain, ids[5 : 5 + first])]
        for shift, state, other in zip((0, 5), states, wanted, strict=True):
            more = ids[first + shift : first + shift + count]
            close(after(fast, state, more).logits, after(plain, other, more).logits)
        rows = fast.step_many([ids[:1]] * 2, states)  # what the chunks left in the slots is gone on with
        for got, state, other in zip(rows, states, wanted, strict=True):
            close(got, plain.step(ids[:1], other).logits)
            state.check_integrity()
    assert len(fast.chunks) == 1, "five to eight tokens are one number of rows"


def test_a_chunk_that_fails_takes_nothing_away(
    plain: Runner, fast: GpuRunner, ids: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, wanted = begun(fast, ids[:130]), begun(plain, ids[:130])
    fast.step(ids[130:131], state)
    plain.step(ids[130:131], wanted)
    with interrupted(fast, monkeypatch):
        fast.step(ids[200:206], state)
    assert isinstance(state, GpuState)
    assert (state.length, state.stale) == (131, False), "the slot has its rows again"
    close(fast.step(ids[131:132], state).logits, plain.step(ids[131:132], wanted).logits)


def test_an_early_failure_does_not_bring_an_older_chunk_back(
    plain: Runner, fast: GpuRunner, ids: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, wanted = begun(fast, ids[:40]), begun(plain, ids[:40])
    for runner, one in ((fast, state), (plain, wanted)):
        runner.step(ids[40:45], one)
        runner.step(ids[45:46], one)
    with monkeypatch.context() as patch:
        patch.setattr(fast.chunks, "_send", lambda *given: (_ for _ in ()).throw(MemoryError))
        with pytest.raises(MemoryError):
            fast.step(ids[200:206], state)
    close(fast.step(ids[46:47], state).logits, plain.step(ids[46:47], wanted).logits)


def test_a_chunk_that_is_not_kept_is_gone_once_it_has_run(
    fast: GpuRunner, ids: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the collector, which a service makes wait: it holds memory of the GPU."""
    gone, prepare, state = list[weakref.ref[object]](), fast.chunks._prepare, begun(fast, ids[:40])

    def prepared(rows: int, width: int, mass: bool) -> object:
        made = prepare(rows, width, mass)
        gone.extend(weakref.ref(one) for one in (made, made.staging, made.replay))
        return made

    monkeypatch.setattr(fast.chunks, "_prepare", prepared)
    before = gc.isenabled()
    gc.disable()
    try:
        assert any(report.mass for report in fast.step(ids[40:45], state, controls=Controls(mass=True)).reports)
        assert [one() for one in gone] == [None] * 3
    finally:
        if before:
            gc.enable()


def test_rows_that_are_made_ready_are_all_that_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert sorted({padded(n) for n in range(1, 1025)}) == list(ROWS)


def test_idle_steps_are_there_before_they_are_needed_and_write_nothing(model: Transformer) -> None:
    runner, ids = gpu_runner(model), some_ids()
    state = begun(runner, ids[:60])
    runner.step(ids[60:61], state)
    before = [layer.ring.rows.clone() for layer in runner.slots.layers()]
    raw = [ring.rows.clone() for layer in runner.slots.layers() for ring in layer.partial.values()]
    pages = [rows.clone() for rows in (runner.pool.first_slab().rows(key) for key in runner.pool.specs)]
    runner.chunks.warm(5, pages=1)
    runner.graphs.warm(3, most=1, pages=1)
    assert all(map(torch.equal, before, [layer.ring.rows for layer in runner.slots.layers()]))
    assert all(map(torch.equal, raw, [r.rows for layer in runner.slots.layers() for r in layer.partial.values()]))
    assert all(map(torch.equal, pages, [runner.pool.first_slab().rows(key) for key in runner.pool.specs]))
    met = len(runner.chunks), len(runner.graphs)
    runner.step(ids[61:68], state)
    assert (len(runner.chunks), len(runner.graphs)) == met


def test_the_common_steps_are_made_ready_as_long_as_there_is_time(
    model: Transformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("octavo.engine.gpu.runner.ROWS", (8, 512))
    runner = gpu_runner(model, slots=2)
    assert (runner.warm(0.0), len(runner.chunks), len(runner.graphs)) == (0, 0, 0)
    made = runner.warm(600.0)
    # Logits, one and two sequences, a chunk, two and four tokens of a sequence.
    assert (made, len(runner.chunks), len(runner.graphs)) == (6, 1, 4)
    assert plain_runner(model).warm(600.0) == 0
