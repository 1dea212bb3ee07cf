"""A step that is under way before the host knows its token: the same tokens and states, whatever comes between."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from octavo.config.errors import CheckpointError
from octavo.engine.answer import Finish
from octavo.engine.generation import Generation
from octavo.engine.gpu.ahead import Likeliest
from octavo.engine.gpu.runner import GpuRunner
from octavo.engine.gpu.state import GpuState
from octavo.engine.request import Request
from octavo.engine.runner import Runner
from octavo.engine.speculative import Decoding
from octavo.text.tokenizer import Tokenizer
from tests.support.gpu_world import DEVICE, begun, close, gpu_runner, plain_runner, smaller_model
from tests.support.tiny_tokenizer import tiny_tokenizer


@pytest.fixture(scope="module")
def plain() -> Runner:
    return plain_runner(smaller_model())


@pytest.fixture(scope="module")
def fast(plain: Runner) -> GpuRunner:
    return gpu_runner(plain.model, slots=2)


def tokens(runner: Runner, ids: np.ndarray, read: int, count: int) -> list[int]:
    """`count` greedy tokens by the plain model."""
    steps, made = Decoding(runner, begun(runner, ids[: read - 1]), greedy=True), list[int]()
    steps.begin(ids[read - 1 : read])
    while len(made) < count:
        made.append(steps.greedy()[0])
        steps.next(made[-1], most=0)
    return made


def decoding(fast: GpuRunner, ids: np.ndarray, read: int) -> tuple[Decoding, GpuState]:
    state = begun(fast, ids[: read - 1])
    assert isinstance(state, GpuState)
    return Decoding(fast, state, greedy=True), state


# 130: steps under way close a CSA entry; 255: the one after it needs a page, so that it waits for its token
@pytest.mark.parametrize("read", [130, 255])
def test_tokens_are_those_of_the_plain_model_and_no_step_runs_twice(
    plain: Runner, fast: GpuRunner, ids: np.ndarray, read: int
) -> None:
    steps, state = decoding(fast, ids, read)
    before, made = fast.graphs.count, list[int]()
    steps.begin(ids[read - 1 : read], most=4)
    for left in range(4, -1, -1):
        made.append(steps.greedy()[0])
        assert (state.ahead is not None) == (left > 0 and state.length != 256)
        if left:
            steps.next(made[-1], most=left - 1)
    assert made == tokens(plain, ids, read, 5)
    assert fast.graphs.count - before == 5
    assert steps.steps == 4
    assert state.tokens.tolist() == [*ids[:read].tolist(), *made[:4]]
    state.check_integrity()


def test_a_chunk_of_another_sequence_makes_the_step_under_way_count_for_nothing(
    plain: Runner, fast: GpuRunner, ids: np.ndarray
) -> None:
    """Chunks and steps are captured in one pool of memory: what the step has left there is written over."""
    (steps, state), other = decoding(fast, ids, 130), begun(fast, ids[:20])
    steps.begin(ids[129:130], most=2)
    made = [steps.greedy()[0]]
    under_way = fast.graphs.count
    assert state.ahead == under_way
    fast.read(ids[20:60], other)
    assert fast.graphs.count > under_way
    steps.next(made[-1], most=1)
    made.append(steps.greedy()[0])
    assert made == tokens(plain, ids, 130, 2)


@pytest.mark.parametrize("finish", [Finish.END, Finish.LENGTH, Finish.CONTEXT])
def test_answers_end_as_without_a_step_under_way(
    plain: Runner, ids: np.ndarray, finish: Finish, tmp_path: Path
) -> None:
    """The third token is the end token, or the last one that may come, or that fits."""
    fields = {
        Finish.END: {"eos_token_id": tokens(plain, ids, 40, 3)[2]},
        Finish.LENGTH: {},
        Finish.CONTEXT: {"max_position_embeddings": 42},
    }
    runner = gpu_runner(smaller_model(**fields[finish]))
    tiny_tokenizer(tmp_path, vocab_size=400)
    words, made = Tokenizer.load(tmp_path), []
    for one in (runner, plain_runner(runner.model)):
        request = Request(max_tokens=3 if finish is Finish.LENGTH else 9, draft=0)
        made.append(Generation(one, words, begun(one, ids[:39]), ids[39:40].tolist(), request))
        made[-1].run()
    ahead, alone = made
    assert (ahead.token_ids, ahead.finish, ahead.text) == (alone.token_ids, finish, alone.text)
    assert ahead.state.tokens.tolist() == alone.state.tokens.tolist()
    ahead.state.check_integrity()
    if finish is Finish.END:  # one more step was under way
        close(runner.step(ids[:1], ahead.state).logits, alone._runner.step(ids[:1], alone.state).logits)


def test_a_step_that_is_not_taken_leaves_the_state_as_it_was(plain: Runner, fast: GpuRunner, ids: np.ndarray) -> None:
    steps, state = decoding(fast, ids, 130)
    steps.begin(ids[129:130], most=9)
    steps.greedy()
    assert state.ahead is not None
    steps.close()
    assert state.length == 130
    other, wanted = int(ids[200]), begun(plain, ids[:130])
    close(steps.next(other, most=0).logits, plain.step(ids[200:201], wanted).logits)
    state.rollback(2)
    wanted.rollback(2)
    close(fast.step(ids[7:8], state).logits, plain.step(ids[7:8], wanted).logits)


def test_no_step_is_under_way_while_logits_are_looked_at(
    plain: Runner, fast: GpuRunner, ids: np.ndarray, tmp_path: Path
) -> None:
    """On a GPU it writes over them; the interpreter makes new ones, so that equal ones alone would prove nothing."""
    tiny_tokenizer(tmp_path, vocab_size=400)
    words = Tokenizer.load(tmp_path)

    def looked_at(runner: Runner) -> list[tuple[int, Tensor]]:
        state, seen = begun(runner, ids[:129]), list[tuple[int, Tensor]]()

        def look(token: int, logits_V: Tensor) -> None:
            assert not isinstance(state, GpuState) or state.ahead is None
            seen.append((token, logits_V.cpu().clone()))

        Generation(runner, words, state, ids[129:130].tolist(), Request(max_tokens=3, draft=0), look=look).run()
        return seen

    found, wanted = looked_at(fast), looked_at(plain)
    assert [token for token, _ in found] == [token for token, _ in wanted]
    for token, logits in found:
        assert int(logits.argmax()) == token
    for (_, one), (_, other) in zip(found, wanted, strict=True):
        close(one, other)


def test_what_comes_between_makes_the_step_run_again(plain: Runner, fast: GpuRunner, ids: np.ndarray) -> None:
    steps, state = decoding(fast, ids, 131)
    steps.begin(ids[130:131], most=9)
    made = [steps.greedy()[0]]
    others = [begun(fast, ids[: 30 + n]) for n in range(2)]
    for other in others:  # the last of them takes the slot
        fast.step(ids[:1], other)
    assert state.ahead is None
    steps.next(made[-1], most=9)
    made.append(steps.greedy()[0])
    assert state.ahead is not None
    fast.step(ids[1:2], others[-1])  # the slot stays, what the step gave is written over
    steps.next(made[-1], most=0)
    made.append(steps.greedy()[0])
    assert made == tokens(plain, ids, 131, 3)


def test_the_likeliest_is_the_first_of_equals_and_nan_is_refused() -> None:
    found, logits = Likeliest(torch.device(DEVICE)), torch.zeros(1, 50, device=DEVICE)
    logits[0, 17] = logits[0, 33] = 2.5
    found.find(logits)
    assert found.read() == int(found.token) == 17
    logits[0, 40] = torch.nan
    found.find(logits)
    with pytest.raises(CheckpointError, match="NaN"):
        found.read()
