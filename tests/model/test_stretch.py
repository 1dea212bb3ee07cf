"""Steps of several sequences in one call: the bits of steps one by one, and a state that learns of them at the end."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from octavo.cache.state import SequenceState
from octavo.engine.runner import Runner
from octavo.kernels import dispatch
from octavo.kernels.rope import loops
from octavo.model.block import Block
from octavo.model.stretch import Several, Stretch
from octavo.model.transformer import Transformer
from tests.support.bodies import COMPILED, take
from tests.support.worlds import WORLDS, of_runner

if not COMPILED:
    pytest.skip("the package was built without a compiler, or for another processor", allow_module_level=True)

LENGTHS = (3, 63, 200, 250, 511, 700)


@pytest.fixture(params=COMPILED, autouse=True)
def at_level(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    take(request.param, monkeypatch)


def after(runner: Runner, tokens: int) -> SequenceState:
    state = runner.new_state()
    runner.read(np.random.default_rng(tokens).integers(16, 380, tokens), state)
    return state


def begun(runner: Runner, state: SequenceState, most: int = 40) -> Stretch:
    stretch = runner.stretch(state, most=most)
    assert stretch is not None
    return stretch


def check_same(state: SequenceState, twin: SequenceState) -> None:
    state.check_integrity()
    assert np.array_equal(state.tokens, twin.tokens)
    found, expected = state.snapshot(), twin.snapshot()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], rows) for name, rows in expected.items())
    done = state.length // 256
    pages, others = (each.read_pages(0, done) if done else {} for each in (state, twin))
    assert all(torch.equal(pages[key], rows) for key, rows in others.items())


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("world", WORLDS)
def test_rows_and_states_are_those_of_steps_one_by_one(world: str, threads: int) -> None:
    runner, steps = of_runner(WORLDS[world]), 90
    states = [after(runner, length) for length in LENGTHS]
    twins = [state.fork() for state in states]
    held: list[Stretch | None] = [None] * len(states)
    ids = np.random.default_rng(1).integers(16, 380, (steps, len(states)))
    together, before = 0, torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for row in ids:
            ready = []
            for i, state in enumerate(states):
                stretch = held[i]
                if stretch is None or not stretch.left:
                    if stretch is not None:
                        stretch.settle()
                    held[i] = stretch = runner.stretch(state, most=steps, before=stretch)
                if stretch is None:
                    expected = runner.step(row[i : i + 1], twins[i]).logits
                    assert torch.equal(runner.step(row[i : i + 1], state).logits, expected)
                else:
                    ready.append((i, stretch))
            found = runner.together([stretch for _, stretch in ready], [int(row[i]) for i, _ in ready])
            together += len(ready)
            for (i, _), each in zip(ready, found, strict=True):
                expected = runner.step(row[i : i + 1], twins[i]).logits
                assert torch.equal(each.logits, expected)
                assert each.best == int(expected[0].argmax())
    finally:
        torch.set_num_threads(before)
    assert together > 0.9 * steps * len(states)
    for stretch, state, twin in zip(held, states, twins, strict=True):
        if stretch is not None:
            stretch.settle()
        check_same(state, twin)
        assert torch.equal(runner.step(row[:1], state).logits, runner.step(row[:1], twin).logits)


def test_a_state_learns_of_steps_at_the_end_and_only_once() -> None:
    runner = of_runner()
    state = after(runner, 300)
    twin = state.fork()
    stretch = begun(runner, state)
    for token in (20, 21, 22):
        runner.together([stretch], [token])
    assert (state.length, stretch.length, stretch.done) == (300, 303, 3)
    stretch.settle()
    stretch.settle()
    assert (state.length, stretch.left) == (303, 0)
    runner.read(np.array([20, 21, 22]), twin)
    assert np.array_equal(state.tokens, twin.tokens)


def test_a_stretch_that_is_left_changes_nothing() -> None:
    runner = of_runner()
    state = after(runner, 300)
    twin = state.fork()
    runner.together([begun(runner, state)], [20])
    assert torch.equal(runner.step(np.array([30]), state).logits, runner.step(np.array([30]), twin).logits)
    check_same(state, twin)


def test_steps_end_with_what_is_asked_for_the_page_and_the_context() -> None:
    runner = of_runner(WORLDS["exact"])
    assert begun(runner, after(runner, 300), most=7).left == 7
    assert begun(runner, after(runner, 500), most=100).left == 12
    assert runner.stretch(after(runner, 300), most=0) is None
    assert runner.stretch(runner.new_state(), most=5) is None
    end = after(runner, 4095)
    runner.together([begun(runner, end)], [20])
    assert runner._several.begin(end, most=0) is None


def test_a_replaced_weight_is_used_from_the_next_stretch_on() -> None:
    runner = of_runner()
    state = after(runner, 300)
    first = begun(runner, state, most=1)
    runner.together([first], [20])
    first.settle()
    for block in runner.model.layers:
        assert isinstance(block, Block)
        block.attn.wq_a.weight = torch.nn.Parameter(block.attn.wq_a.weight * 1.5)
    runner.model.head.weight = torch.nn.Parameter(runner.model.head.weight * 2)
    twin = state.fork()
    second = runner.stretch(state, most=1, before=first)
    assert second is not None
    [row] = runner.together([second], [21])
    assert torch.equal(row.logits, runner.step(np.array([21]), twin).logits)


def test_rotations_of_the_next_stretch_are_made_before_its_first_step(monkeypatch: pytest.MonkeyPatch) -> None:
    runner = of_runner(WORLDS["exact"])
    state = after(runner, 300)
    twin, first = state.fork(), begun(runner, state, most=3)
    for token in (20, 21):
        runner.together([first], [token])
    with monkeypatch.context() as patch:
        patch.setattr(loops, "table", None)  # whoever makes one now fails
        runner.together([first], [22])
        first.settle()
        second = runner.stretch(state, most=2, before=first)
    assert second is not None
    for token in (20, 21, 22):
        runner.step(np.array([token]), twin)
    [row] = runner.together([second], [23])
    assert torch.equal(row.logits, runner.step(np.array([23]), twin).logits)


def test_rotations_made_for_another_place_are_made_again() -> None:
    runner = of_runner(WORLDS["exact"])
    state = after(runner, 300)
    first = begun(runner, state, most=2)
    runner.together([first], [20])
    first.settle()  # a step before its end: the rotations that were made begin a token later
    twin, second = state.fork(), runner.stretch(state, most=2, before=first)
    assert second is not None
    [row] = runner.together([second], [21])
    assert torch.equal(row.logits, runner.step(np.array([21]), twin).logits)


def test_what_compiled_code_does_not_serve_is_left_to_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    runner = of_runner()
    state = after(runner, 300)
    with dispatch.use(dispatch.Body.REFERENCE):
        assert runner.stretch(state, most=4) is None
    handle = runner.model.layers[1].register_forward_hook(lambda *_: None)
    assert runner.stretch(state, most=4) is None
    handle.remove()
    handle = runner.model.embed.register_forward_hook(lambda *_: None)
    assert runner.stretch(state, most=4) is None
    handle.remove()
    assert runner.stretch(state, most=4) is not None
    narrow = of_runner(main="fp8")
    assert narrow.stretch(after(narrow, 300), most=4) is None
    take("numba", monkeypatch)
    assert runner.stretch(state, most=4) is None


def test_nan_is_no_token_and_the_lowest_of_equals_is_chosen() -> None:
    runner = of_runner()
    state = after(runner, 300)
    weight = runner.model.head.weight
    with torch.no_grad():
        weight.zero_()
    [row] = runner.together([begun(runner, state)], [20])
    assert row.best == 0
    with torch.no_grad():
        weight[5] = float("nan")
    [row] = runner.together([begun(runner, after(runner, 30))], [20])
    assert row.best == -1


def test_none_at_a_time_is_fine_and_a_copy_begins_anew() -> None:
    runner = of_runner()
    assert runner.together([], []) == []
    runner.together([begun(runner, after(runner, 300))], [20])
    twin: Several = pickle.loads(pickle.dumps(runner._several))
    assert isinstance(twin._model, Transformer)
    assert twin._head is None
