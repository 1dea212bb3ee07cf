"""Steps of several sequences that answer together, seats for them, pages of a file that forks share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from octavo.engine.generation import Generation
from octavo.engine.gpu.runner import GpuRunner
from octavo.engine.gpu.turn import Turn
from octavo.engine.request import Request
from octavo.engine.runner import Runner
from octavo.model.transformer import Transformer
from octavo.text.tokenizer import Tokenizer
from tests.support.gpu_world import DEVICE, begun, close, gpu_runner
from tests.support.tiny_tokenizer import tiny_tokenizer


def test_a_step_together_is_that_of_each(plain: Runner, fast: GpuRunner, ids: np.ndarray) -> None:
    lengths = (40, 130)
    states, wanted = [begun(fast, ids[:n]) for n in lengths], [begun(plain, ids[:n]) for n in lengths]
    turns = [fast.turn(state) for state in states]
    assert all(isinstance(turn, Turn) for turn in turns)
    rows = fast.together([turn for turn in turns if turn is not None], [int(ids[n]) for n in lengths])
    for row, state, n in zip(rows, wanted, lengths, strict=True):
        logits = plain.step(ids[n : n + 1], state).logits
        close(row.logits, logits)
        assert row.best == int(logits.argmax())
    assert [state.length for state in states] == [41, 131], "the state knows of a step at once"
    assert fast.together([], []) == []


def test_a_row_with_nan_says_so(fast: GpuRunner, ids: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    logits = torch.zeros(2, 5)
    logits[1, 3] = torch.nan
    states = [fast.new_state(), fast.new_state()]
    made = type("Made", (), {"logits": logits})
    monkeypatch.setattr(fast, "_few", lambda *given, **options: made)
    turns = [turn for state in states if (turn := fast.turn(state)) is not None]
    assert [row.best for row in fast.together(turns, [1, 2])] == [0, -1]


def test_seats_are_made_without_losing_a_sequence(plain: Runner, model: Transformer, ids: np.ndarray) -> None:
    runner = gpu_runner(model, slots=1)
    assert (runner.seat(1), plain.seat(40), plain.seat(3)) == (1, 16, 3)
    state, wanted = begun(runner, ids[:50]), begun(plain, ids[:50])
    runner.step(ids[50:51], state)  # its newest rows lie in the slot alone
    plain.step(ids[50:51], wanted)
    assert (runner.seat(3), runner.slots.count, runner.is_shared, plain.is_shared) == (3, 3, False, DEVICE == "cpu")
    close(runner.step(ids[51:52], state).logits, plain.step(ids[51:52], wanted).logits)
    assert runner.seat(1000) == 64


def test_forks_share_the_pages_that_a_file_gave(fast: GpuRunner, ids: np.ndarray) -> None:
    source = begun(fast, ids[:300])
    pages, tails = source.read_pages(0, 2), source.snapshot()
    state = fast.new_state()
    state.adopt_pages(lambda key: pages[key].clone(), 2)
    state.load_snapshot(tails, source.tokens)
    before = fast.pool.allocator.used
    forks = [state.fork() for _ in range(3)]
    assert fast.pool.allocator.used == before + 2
    assert all(fork.pages == state.pages for fork in forks)
    assert fast.pool.adopted_bytes == 0


def test_an_answer_goes_on_together_and_alone_in_turn(fast: GpuRunner, ids: np.ndarray, tmp_path: Path) -> None:
    """What was under way for one alone is given up where a step together came between."""
    tokenizer = Tokenizer.load(tiny_tokenizer(tmp_path))

    def answer(together: set[int]) -> list[int]:
        state, other = begun(fast, ids[:60]), begun(fast, ids[:20])
        made = Generation(fast, tokenizer, state, [int(ids[60])], Request(max_tokens=6))
        made.advance()
        for step in range(1, 6):
            row = None
            if step in together:
                beside, turn = made.beside(), fast.turn(other)
                assert beside is not None
                assert turn is not None
                row, _ = fast.together([beside[0], turn], [beside[1], int(ids[20 + step])])
            made.advance(row)
        assert state.length == 66, "the last token is not read"
        return made.token_ids

    assert answer({2, 3, 5}) == answer(set())
