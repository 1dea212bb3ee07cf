"""Reading loop: chunks change nothing, an interrupt leaves a valid state, rollback reads again what it must."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from octavo.cache.state import SequenceState
from octavo.cache.view import Controls
from octavo.config.errors import LimitError
from octavo.engine.llm import LLM
from tests.support.tiny import tiny_engram
from tests.support.tiny_llm import tiny_llm


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> LLM:
    return tiny_llm(tmp_path_factory.mktemp("model"), engram=tiny_engram("v1"))


@pytest.fixture
def ids() -> np.ndarray:
    return torch.randint(16, 380, (300,), generator=torch.Generator().manual_seed(3)).numpy()


@pytest.mark.parametrize("chunk", [1, 7, 64, 129, 300])
def test_any_chunk_gives_the_logits_of_one_pass(llm: LLM, ids: np.ndarray, chunk: int) -> None:
    part = ids[:135] if chunk < 8 else ids
    whole = llm.runner.whole_logits(part)
    assert torch.allclose(llm.runner.all_logits(part, llm.new_state(), chunk=chunk), whole, atol=1e-5)


def test_read_last_gives_the_last_row(llm: LLM, ids: np.ndarray) -> None:
    state = llm.new_state()
    output = llm.runner.read_last(ids, state)
    assert output.logits.shape == (1, llm.config.vocab_size)
    assert torch.allclose(output.logits[0], llm.runner.whole_logits(ids)[-1], atol=1e-5)
    assert state.length == len(ids)
    state.check_integrity()


def test_mass_is_reported_for_the_last_pass_only_on_request(llm: LLM, ids: np.ndarray) -> None:
    state = llm.new_state()
    quiet = llm.runner.read_last(ids[:200], state)
    assert all(not report.mass for report in quiet.reports)
    loud = llm.runner.read_last(ids[200:], state, controls=Controls(mass=True))
    assert [len(report.mass) for report in loud.reports] == [0, 1, 1, 1, 1]


def test_chunks_end_at_absolute_multiples(llm: LLM, ids: np.ndarray) -> None:
    ends: list[int] = []
    state = llm.new_state()
    llm.runner.read(ids[:10], state)
    llm.runner.read(ids[10:], state, after=lambda s: ends.append(s.length))
    assert ends == [64, 128, 192, 256, 300]


def test_two_readings_cut_elsewhere_leave_the_same_bits(llm: LLM, ids: np.ndarray) -> None:
    at_once, resumed = llm.new_state(), llm.new_state()
    llm.runner.read(ids, at_once)
    llm.runner.read(ids[:128], resumed)
    llm.runner.read(ids[128:], resumed)
    one, two = at_once.snapshot(), resumed.snapshot()
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_interrupt_between_chunks_leaves_a_state_that_goes_on(llm: LLM, ids: np.ndarray) -> None:
    state = llm.new_state()

    def stop(state: SequenceState) -> None:
        if state.length == 128:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        llm.runner.read(ids, state, after=stop)
    assert state.length == 128
    state.check_integrity()
    last = llm.runner.read_last(ids[128:], state).logits[0]
    assert torch.allclose(last, llm.runner.whole_logits(ids)[-1], atol=1e-5)


def test_interrupt_inside_a_chunk_leaves_a_state_that_goes_on(
    llm: LLM, ids: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = llm.new_state()
    llm.runner.read(ids[:100], state)
    block = llm.model.layers[3]
    forward = block.forward

    def stop(*args: object) -> None:
        forward(*args)  # its entries are written already
        raise KeyboardInterrupt

    monkeypatch.setattr(block, "forward", stop)
    with pytest.raises(KeyboardInterrupt):
        llm.runner.step(ids[150:250], state)
    monkeypatch.undo()
    assert state.length == 100
    last = llm.runner.read_last(ids[100:], state).logits[0]
    assert torch.allclose(last, llm.runner.whole_logits(ids)[-1], atol=1e-5)
    state.check_integrity()


@pytest.mark.parametrize("back", [1, 5, 9, 130, 299, 300])
def test_rollback_of_any_distance_is_exact(llm: LLM, ids: np.ndarray, back: int) -> None:
    state = llm.new_state()
    llm.runner.read(ids, state)
    state.rollback(back)
    assert state.length == len(ids) - back
    state.check_integrity()
    again = llm.runner.read_last(ids[len(ids) - back :], state).logits[0]
    assert torch.allclose(again, llm.runner.whole_logits(ids)[-1], atol=1e-5)


def test_context_is_a_limit_and_the_state_stays(tmp_path: Path) -> None:
    llm = tiny_llm(tmp_path, max_position_embeddings=100)
    state = llm.new_state()
    llm.runner.read(np.full(90, 20), state)
    for call in (llm.runner.read, llm.runner.step, llm.runner.read_last):
        with pytest.raises(LimitError, match="11 tokens after 90 make 101; the context of this model ends at 100"):
            call(np.full(11, 20), state)
    assert state.length == 90
    llm.runner.read(np.full(10, 20), state)
    assert state.length == 100


def test_states_share_a_pool_and_give_their_pages_back(tmp_path: Path) -> None:
    llm = tiny_llm(tmp_path)
    a, b = llm.new_state(), llm.new_state()
    llm.runner.read(np.full(300, 20), a)
    llm.runner.read(np.full(20, 21), b)
    allocator = llm.pool.allocator
    assert allocator.total - allocator.free == 3
    a.close()
    b.close()
    assert allocator.total == allocator.free
    allocator.check_integrity()
