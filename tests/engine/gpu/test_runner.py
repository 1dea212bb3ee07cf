"""The GPU's runner against the plain one: chunks, steps, batches, attention mass, a full pool, foreign states."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from octavo.cache.view import Controls
from octavo.config.errors import LimitError
from octavo.engine.gpu.runner import GpuRunner
from octavo.engine.runner import Runner
from octavo.model.attention import Mass
from octavo.model.transformer import Transformer
from tests.support.gpu_world import PLAIN, after, begun, close, gpu_runner, interrupted, plain_runner, small_model


def test_chunks_and_steps_give_the_plain_models_logits(ids: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_model(num_hidden_layers=3, compress_ratios=(0, 4, 128))
    plain, fast = plain_runner(model), gpu_runner(model)
    wanted, state = begun(plain, ids[:123]), begun(fast, ids[:123])
    with monkeypatch.context() as patch:
        patch.setattr("octavo.engine.gpu.runner._FEW", 4)  # so that a short chunk is one; it closes an HCA entry
        close(after(fast, state, ids[123:129]).logits, after(plain, wanted, ids[123:129]).logits)
    for at in (129, 130):
        close(fast.step(ids[at : at + 1], state).logits, plain.step(ids[at : at + 1], wanted).logits)
    close(after(fast, state, ids[131:136]).logits, after(plain, wanted, ids[131:136]).logits)
    state.check_integrity()
    assert [int(t) for t in state.tokens] == [int(t) for t in ids[:136]]


def test_reading_from_nothing(plain: Runner, fast: GpuRunner, ids: np.ndarray) -> None:
    state, lengths = fast.new_state(), []
    fast.read(ids[:6], state, after=lambda s: lengths.append(s.length))
    assert lengths == [6]
    close(fast.step(ids[6:7], state).logits, plain.whole_logits(ids[:7])[-1:])


@pytest.mark.parametrize("main", ["fp8", "fp4"])
def test_rows_of_few_bits_are_written_and_read_as_the_plain_model_does(
    model: Transformer, ids: np.ndarray, main: str
) -> None:
    plain, fast = plain_runner(model, main=main), gpu_runner(model, main=main)
    wanted, state = begun(plain, ids[:122]), begun(fast, ids[:122])
    for at in (122, 123, 124):  # the second closes an entry
        close(fast.step(ids[at : at + 1], state).logits, plain.step(ids[at : at + 1], wanted).logits)
    got, made = (one.read_pages(0, 1)[0, "main"][:31] for one in (state, wanted))
    assert torch.equal(got, made)


def test_many_sequences_at_a_time_are_each_as_alone(plain: Runner, fast: GpuRunner, ids: np.ndarray) -> None:
    lengths = (40, 130, 257)
    states = [begun(fast, ids[:n]) for n in lengths]
    wanted = [begun(plain, ids[:n]) for n in lengths]
    made = fast.step_many([ids[n : n + 1] for n in lengths], states)
    for got, state, n in zip(made, wanted, lengths, strict=True):
        close(got, plain.step(ids[n : n + 1], state).logits)
    with pytest.raises(LimitError, match="4 sequences at a time are more than the 3 slots"):
        fast.step_many([ids[:1]] * 4, [fast.new_state() for _ in range(4)])


@pytest.mark.parametrize("count", [3, 10])
def test_a_step_that_fails_takes_nothing_away(
    plain: Runner, fast: GpuRunner, ids: np.ndarray, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, wanted = begun(fast, ids[:130]), begun(plain, ids[:130])
    fast.step(ids[130:131], state)
    plain.step(ids[130:131], wanted)
    with interrupted(fast, monkeypatch):
        fast.step(ids[200 : 200 + count], state)
    assert state.length == 131
    close(fast.step(ids[131:132], state).logits, plain.step(ids[131:132], wanted).logits)


def test_a_step_of_many_sequences_has_limits(fast: GpuRunner, ids: np.ndarray) -> None:
    for count in (0, 17):
        with pytest.raises(LimitError, match=f"{count} tokens of a sequence are given to one step; it takes 1 to 16"):
            fast.step_many([ids[:count]], [fast.new_state()])


def test_attention_mass_is_that_of_the_plain_model(plain: Runner, fast: GpuRunner, ids: np.ndarray) -> None:
    state, wanted = begun(fast, ids[:140]), begun(plain, ids[:140])
    asked = Controls(mass=True)
    got = fast.step(ids[140:141], state, controls=asked).reports
    for ours, theirs in zip(got, plain.step(ids[140:141], wanted, controls=asked).reports, strict=True):
        assert len(ours.mass) == len(theirs.mass)
        for a, b in zip(ours.mass, theirs.mass, strict=True):
            torch.testing.assert_close(by_entry(a), by_entry(b), rtol=1e-3, atol=1e-5)


def by_entry(mass: Mass) -> Tensor:
    """Mass of the last row spread over entries 0 .. 63."""
    values, total = mass.values[0, -1].cpu(), torch.zeros(64)
    index = torch.arange(len(values)) if mass.index is None else mass.index[0, -1].cpu().long()
    kept = index >= 0
    return total.index_add(0, index[kept], values[kept].float())


def test_a_full_pool_says_so(model: Transformer, ids: np.ndarray) -> None:
    runner = gpu_runner(model, tokens=256, slots=2)
    kept = begun(runner, ids[:200])
    with pytest.raises(LimitError, match="all 1 pages are in use"):
        runner.step(ids[:1], runner.new_state())
    assert kept.length == 200


def test_a_state_of_another_kind_is_refused(plain: Runner, fast: GpuRunner, ids: np.ndarray) -> None:
    with pytest.raises(AssertionError, match="made by another runner"):
        fast.step(ids[:1], plain.new_state())
    assert replace(PLAIN, load=False) == Controls()
