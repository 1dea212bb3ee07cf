"""Chunks in a pipeline give the state that one after the other gives, bit for bit, and stop as cleanly."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from octavo.cache.state import SequenceState
from octavo.cache.view import Controls
from octavo.engine.llm import LLM
from octavo.engine.pipeline import read_in_pipeline
from octavo.kernels import dispatch
from octavo.kernels.dispatch import Body, use
from tests.support.tiny import tiny_engram
from tests.support.tiny_llm import tiny_llm

CHUNK = 64


@pytest.fixture(scope="module", params=["v1", "v41"])
def llm(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LLM:
    return tiny_llm(tmp_path_factory.mktemp("model"), engram=tiny_engram(request.param))


@pytest.fixture
def ids() -> np.ndarray:
    return torch.randint(16, 380, (700,), generator=torch.Generator().manual_seed(3)).numpy()


@pytest.fixture(params=[2, 3])
def _threads(request: pytest.FixtureRequest) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


def parts(ids: np.ndarray) -> list[np.ndarray]:
    return np.split(ids, range(CHUNK, len(ids), CHUNK))


def one_by_one(llm: LLM, ids: np.ndarray, state: SequenceState | None = None) -> SequenceState:
    """The state after one chunk at a time, each operation on one thread."""
    state, threads = state or llm.new_state(), torch.get_num_threads()
    torch.set_num_threads(1)
    for part in parts(ids):
        llm.runner._advance(part, state, None)
    torch.set_num_threads(threads)
    return state


def assert_same(a: SequenceState, b: SequenceState) -> None:
    assert (a.length, a.tokens.tolist(), a.marks) == (b.length, b.tokens.tolist(), b.marks)
    tails, pages = b.snapshot(), b.read_pages(0, len(b.pages))
    assert a.snapshot().keys() == tails.keys()
    for name, rows in a.snapshot().items():
        assert torch.equal(rows, tails[name]), name
    for key, rows in a.read_pages(0, len(a.pages)).items():
        used = a.length // a.layout.config.layer_ratios[key[0]]
        assert torch.equal(rows[:used], pages[key][:used]), key
    a.check_integrity()


@pytest.mark.usefixtures("_threads")
def test_bits_are_those_of_one_chunk_after_the_other(llm: LLM, ids: np.ndarray) -> None:
    state, lengths = llm.new_state(), []
    threads = torch.get_num_threads()
    read_in_pipeline(llm.runner.model, state, parts(ids), after=lambda s: lengths.append(s.length))
    assert lengths == [*range(64, 700, 64), 700]
    assert torch.get_num_threads() == threads
    assert_same(state, one_by_one(llm, ids))


@pytest.mark.usefixtures("_threads")
def test_reading_goes_on_behind_a_fork_and_leaves_the_other_alone(llm: LLM, ids: np.ndarray) -> None:
    state = one_by_one(llm, ids[:200])
    twin = state.fork()
    read_in_pipeline(llm.runner.model, state, parts(ids[200:]))
    assert_same(twin, one_by_one(llm, ids[:200]))
    assert_same(state, one_by_one(llm, ids[200:], one_by_one(llm, ids[:200])))


@pytest.mark.usefixtures("_threads")
@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_stopped_after_a_chunk_it_goes_on_there(llm: LLM, ids: np.ndarray, error: type[BaseException]) -> None:
    state, running = llm.new_state(), threading.active_count()

    def after(state: SequenceState) -> None:
        if state.length == 4 * CHUNK:
            raise error

    with pytest.raises(error):
        read_in_pipeline(llm.runner.model, state, parts(ids), after=after)
    assert state.length == 4 * CHUNK
    assert threading.active_count() == running
    state.check_integrity()
    read_in_pipeline(llm.runner.model, state, parts(ids[4 * CHUNK :]))
    assert_same(state, one_by_one(llm, ids))


@pytest.mark.usefixtures("_threads")
def test_an_error_inside_a_layer_is_raised_and_keeps_what_came_before(
    llm: LLM, ids: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer, calls = llm.runner.model.layers[3], []
    forward = layer.forward

    def failing(streams: torch.Tensor, *rest: Any) -> Any:
        calls.append(len(streams))
        if len(calls) == 3:
            raise MemoryError("no room")
        return forward(streams, *rest)

    monkeypatch.setattr(layer, "forward", failing)
    state = llm.new_state()
    with pytest.raises(MemoryError, match="no room"):
        read_in_pipeline(llm.runner.model, state, parts(ids))
    assert state.length == 2 * CHUNK
    assert len(calls) == 3  # nobody behind it came as far
    monkeypatch.undo()
    read_in_pipeline(llm.runner.model, state, parts(ids[2 * CHUNK :]))
    assert_same(state, one_by_one(llm, ids))


@pytest.mark.usefixtures("_threads")
def test_workers_run_in_the_callers_context(llm: LLM, ids: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Body] = []
    model = llm.runner.model
    forward = model.forward
    monkeypatch.setattr(model, "forward", lambda *given: seen.append(dispatch.body()) or forward(*given))
    with use(Body.REFERENCE):
        read_in_pipeline(model, llm.new_state(), parts(ids[:130]))
    assert seen == [Body.REFERENCE] * 3


def test_controls_reach_every_chunk(llm: LLM, ids: np.ndarray) -> None:
    with_hca, without = llm.new_state(), llm.new_state()
    read_in_pipeline(llm.runner.model, with_hca, parts(ids[:300]))
    read_in_pipeline(llm.runner.model, without, parts(ids[:300]), controls=Controls(hca=False))
    assert not torch.equal(with_hca.snapshot()["4.window"], without.snapshot()["4.window"])
