"""A step of all blocks in one call: what blocks one by one give, and what is kept from one step to the next."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from octavo.cache.state import SequenceState
from octavo.cache.view import Controls
from octavo.config.engram import EngramVariant
from octavo.engine.runner import Runner
from octavo.kernels.step.whole import Layers
from octavo.model import stack
from octavo.model.transformer import Transformer
from tests.support.bodies import BODIES, COMPILED, take
from tests.support.tiny import tiny_config, tiny_engram
from tests.support.worlds import LONG, WORLDS, of_runner

if not COMPILED:
    pytest.skip("the package was built without a compiler, or for another processor", allow_module_level=True)


@pytest.fixture(params=COMPILED, autouse=True)
def at_level(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    take(request.param, monkeypatch)


def ids_of(count: int) -> np.ndarray:
    return torch.randint(16, 380, (count,), generator=torch.Generator().manual_seed(3)).numpy()


def after(runner: Runner, tokens: int) -> SequenceState:
    state = runner.new_state()
    runner.read(ids_of(tokens), state)
    return state


def kept(runner: Runner) -> Any:
    """What the model keeps for its next step, None for nothing."""
    found = runner.model._stack._kept
    return found[0] if found else None


def one_by_one(runner: Runner, ids: np.ndarray, state: SequenceState, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """Logits of one step by the blocks' single operations, which leaves what is kept alone."""
    with monkeypatch.context() as changed:
        take("numba", changed)
        return runner.step(ids, state).logits.numpy()


def check(runner: Runner, state: SequenceState, twin: SequenceState, monkeypatch: pytest.MonkeyPatch, n: int) -> None:
    """`n` steps of both, which hold the same tokens, agree: `state` in one call, `twin` block by block."""
    ids = np.random.default_rng(state.length).integers(16, 380, n)
    for at in range(n):
        found = runner.step(ids[at : at + 1], state).logits.numpy()
        np.testing.assert_allclose(found, one_by_one(runner, ids[at : at + 1], twin, monkeypatch), rtol=0, atol=1e-4)
    state.check_integrity()


@pytest.mark.parametrize("read", [1, 28, 240])  # the last one ends 16 tokens before a page does
@pytest.mark.parametrize("world", WORLDS)
def test_steps_are_those_of_blocks_one_by_one(world: str, read: int, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = of_runner(WORLDS[world])
    state = after(runner, read)
    check(runner, state, state.fork(), monkeypatch, 36)
    assert kept(runner) is not None


@pytest.mark.parametrize("T", [2, 5])
def test_steps_of_several_tokens(T: int, monkeypatch: pytest.MonkeyPatch) -> None:
    runner, ids = of_runner(), ids_of(150 + 8 * T)
    state = after(runner, 150)
    twin = state.fork()
    for at in range(150, len(ids), T):
        found = runner.step(ids[at : at + T], state, all_rows=True).logits.numpy()
        with monkeypatch.context() as changed:
            take("numba", changed)
            wanted = runner.step(ids[at : at + T], twin, all_rows=True).logits.numpy()
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-4)
    state.check_integrity()


def test_a_step_is_one_call_and_one_more_for_each_index_whose_blocks_are_complete(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runner, calls = of_runner(), []
    plain = Layers.halves
    state = after(runner, 150)
    kinds = runner.model.config.layer_ratios.count(4)

    def spy(self: Layers, begin: int, end: int) -> None:
        calls.append((begin, end))
        plain(self, begin, end)

    runner.step(ids_of(1), state)
    held = kept(runner)
    monkeypatch.setattr(Layers, "halves", spy)
    for _ in range(20):
        calls.clear()
        runner.step(ids_of(1), state)
        assert len(calls) == (1 + kinds if state.length % 16 == 0 else 1)
        assert calls[0][0] == 0
        assert calls[-1][1] == 2 * len(runner.model.layers)
    assert kept(runner) is held


def rolled_back(runner: Runner, state: SequenceState) -> None:
    state.rollback(3)


def moved(runner: Runner, state: SequenceState) -> None:
    for weight in runner.model.parameters():
        weight.data = weight.data.roll(1, 0)


def replaced(runner: Runner, state: SequenceState) -> None:
    runner.model.layers[1].attn = copy.deepcopy(runner.model.layers[1].attn)  # pyright: ignore[reportArgumentType]
    runner.model.layers[1].attn.wkv.weight.data.neg_()  # pyright: ignore


def other_engram(runner: Runner, state: SequenceState) -> None:
    for layer in runner.model.layers:
        if layer.has_engram:
            layer.engram = copy.deepcopy(layer.engram)
            layer.engram.wkv.weight.data.neg_()  # pyright: ignore


def other_sequence(runner: Runner, state: SequenceState) -> None:
    other = after(runner, 40)
    runner.step(ids_of(1), other)


def other_count(runner: Runner, state: SequenceState) -> None:
    runner.step(ids_of(3), state.fork())


def stretched(runner: Runner, state: SequenceState) -> None:
    """Another step under other rules."""
    runner.step(ids_of(1), state.fork(), controls=Controls(hca_offset=torch.tensor(1.0), mass=True))


@pytest.mark.parametrize(
    "between", [rolled_back, moved, replaced, other_engram, other_sequence, other_count, stretched]
)
def test_what_comes_between_two_steps(
    between: Callable[[Runner, SequenceState], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = of_runner()
    state = after(runner, 150)
    check(runner, state, state.fork(), monkeypatch, 3)
    between(runner, state)
    check(runner, state, state.fork(), monkeypatch, 12)


def test_an_interrupted_step_leaves_the_state_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    runner = of_runner()
    state = after(runner, 157)
    check(runner, state, state.fork(), monkeypatch, 2)
    plain = Layers.halves

    def stop(self: Layers, begin: int, end: int) -> None:
        plain(self, begin, end - 1)
        raise KeyboardInterrupt

    with monkeypatch.context() as changed:
        changed.setattr(Layers, "halves", stop)
        with pytest.raises(KeyboardInterrupt):
            runner.step(ids_of(1), state)
    assert state.length == 159
    assert kept(runner) is None
    check(runner, state, state.fork(), monkeypatch, 6)


def test_what_is_asked_for_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    runner = of_runner()
    state = after(runner, 150)
    twin = state.fork()
    found = runner.step(ids_of(1), state, controls=Controls(mass=True)).reports
    with monkeypatch.context() as changed:
        take(BODIES[-1], changed)
        wanted = runner.step(ids_of(1), twin, controls=Controls(mass=True)).reports
    for mine, other in zip(found, wanted, strict=True):
        assert mine.index_loss is mine.load is None
        for a, b in zip(mine.mass, other.mass, strict=True):
            assert a.ratio == b.ratio
            torch.testing.assert_close(a.values.sort().values, b.values.sort().values, rtol=0, atol=1e-5)
    assert kept(runner) is None


def test_where_blocks_run_one_by_one() -> None:
    convolving = tiny_config(**LONG, engram=tiny_engram(variant=EngramVariant.V1))
    for runner in (of_runner(main="bf16"), of_runner(convolving), of_runner(tiny_config(quant_sim=True))):
        state = after(runner, 40)
        assert runner.step(ids_of(1), state).logits.isfinite().all()
        assert kept(runner) is None
    runner, seen = of_runner(), []
    watched = [layer for layer in runner.model.layers if layer.has_engram]
    state = after(runner, 40)
    for module in (runner.model.layers[-1], watched[0].engram):
        hook = module.register_forward_hook(lambda *given: seen.append(given[0]))  # pyright: ignore
        runner.step(ids_of(1), state)
        assert seen.pop() is module
        assert kept(runner) is None
        hook.remove()
    runner.step(ids_of(9), state)
    assert kept(runner) is None
    runner.step(ids_of(1), state)
    assert kept(runner) is not None


def test_ids_that_no_map_knows_are_refused() -> None:
    runner = of_runner()
    state = after(runner, 40)
    state._ids[39] = 10**6
    with pytest.raises(IndexError):
        runner.step(ids_of(1), state)
    state._ids[39] = 20
    assert runner.step(ids_of(1), state).logits.isfinite().all()


@pytest.mark.parametrize("read", [1, 2, 3])
def test_the_first_tokens_have_none_before_them(read: int, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = of_runner()
    state = after(runner, read)
    check(runner, state, state.fork(), monkeypatch, 4)


def test_nothing_of_a_sequence_is_held() -> None:
    runner = of_runner()
    state = after(runner, 40)
    runner.step(ids_of(1), state)
    gone, pages = weakref.ref(state), len(state.pages)
    assert pages
    del state
    gc.collect()
    assert gone() is None
    runner.step(ids_of(1), after(runner, 40))


@pytest.mark.parametrize("again", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copy_steps_by_itself(again: Callable[[Transformer], Transformer], monkeypatch: pytest.MonkeyPatch) -> None:
    runner = of_runner()
    state = after(runner, 40)
    runner.step(ids_of(1), state)
    twin = Runner(again(runner.model), runner.pool)
    assert isinstance(twin.model._stack, stack.StackStep)
    assert kept(twin) is None
    twin.model.embed.weight.data.neg_()
    check(twin, state, state.fork(), monkeypatch, 3)
    check(runner, state, state.fork(), monkeypatch, 3)
