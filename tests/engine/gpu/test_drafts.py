"""Drafts by the fused kernels: the plain drafter's, whatever was accepted; greedy tokens that they do not change."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from octavo.cache.layout import CacheLayout
from octavo.cache.pool import PagePool
from octavo.engine.drafter import Drafter
from octavo.engine.gpu.drafts import GpuDrafter
from octavo.engine.gpu.runner import GpuRunner
from octavo.engine.request import MAX_DRAFT
from octavo.engine.runner import Runner
from octavo.engine.speculative import Decoding
from octavo.model.transformer import Transformer
from tests.support.gpu_world import DEVICE, begun, gpu_runner, plain_runner, smaller_model
from tests.support.training import trained_on_walks, walks


@pytest.fixture(scope="module")
def predicting() -> Transformer:
    """Its window of 12 tokens is kept in rings of 32."""
    return smaller_model(num_nextn_predict_layers=1, sliding_window=12)


@pytest.fixture(scope="module")
def drafting(predicting: Transformer) -> GpuRunner:
    return gpu_runner(predicting, slots=1)


@pytest.fixture(scope="module")
def streams(predicting: Transformer) -> Tensor:
    """Of 40 tokens; any will do."""
    shape = 40, predicting.config.hc_mult, predicting.config.hidden_size
    return torch.randn(shape, generator=torch.Generator().manual_seed(8)).to(DEVICE)


def both(
    drafters: Sequence[Drafter | GpuDrafter], streams: Tensor, ids: np.ndarray, first: int, stop: int, count: int
) -> list[int]:
    """One proposal of each; they must be equal."""
    a, b = (
        one.propose(streams[first:stop], ids[first + 1 : stop + 1].tolist(), first=first, count=count)
        for one in drafters
    )
    assert a == b, (first, stop, count)
    return a


def test_proposals_are_the_plain_drafters(
    predicting: Transformer, drafting: GpuRunner, streams: Tensor, ids: np.ndarray
) -> None:
    """A prompt longer than the window, rows of drafts that are cut, none asked for, a gap, a cut far back."""
    drafters = Drafter(predicting, drafting.pool.layout, DEVICE), drafting.drafter()
    found = both(drafters, streams, ids, 3, 18, 3)
    for first, stop, count in ((18, 19, 3), (19, 22, 2), (22, 23, 0), (23, 25, 1), (30, 32, 2), (31, 33, 2)):
        found += both(drafters, streams, ids, first, stop, count)
    assert len(set(found)) > 8


def test_the_most_drafts_never_reach_the_window_before_them(
    predicting: Transformer, drafting: GpuRunner, streams: Tensor, ids: np.ndarray
) -> None:
    drafters = Drafter(predicting, drafting.pool.layout, DEVICE), drafting.drafter()
    for first, stop, count in ((0, 12, 0), (12, 20, 0), (20, 28, 0), (28, 29, MAX_DRAFT), (29, 30, 2)):
        both(drafters, streams, ids, first, stop, count)


def test_an_answer_whose_ring_went_to_another_begins_again(
    predicting: Transformer, drafting: GpuRunner, streams: Tensor, ids: np.ndarray
) -> None:
    layout = drafting.pool.layout
    first, second = drafting.drafter(), drafting.drafter()
    both((Drafter(predicting, layout, DEVICE), first), streams, ids, 10, 14, 1)
    assert first.slot == 0
    both((Drafter(predicting, layout, DEVICE), second), streams, ids, 30, 33, 1)
    assert (first.slot, second.slot) == (None, 0)
    both((Drafter(predicting, layout, DEVICE), first), streams, ids, 14, 16, 1)


def greedy(runner: Runner, ids: np.ndarray, count: int, draft: int) -> tuple[list[int], Decoding]:
    """`count` tokens behind ids, all but the last of which the plain model reads."""
    steps, made = Decoding(runner, begun(runner, ids[:-1]), draft=draft, greedy=True), list[int]()
    steps.begin(ids[-1:], most=count - 1)
    while True:
        made.append(steps.greedy()[0])
        if len(made) == count:
            steps.close()
            return made, steps
        steps.next(made[-1], most=count - len(made) - 1)


def test_tokens_are_those_of_plain_greedy_decoding(
    predicting: Transformer, drafting: GpuRunner, ids: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Drafts are the predictor's, of which the first is made right three times in four."""
    wanted, _ = greedy(plain_runner(predicting), ids[:126], 7, 0)
    own, draw = GpuDrafter.propose, random.Random(1)

    def propose(self: GpuDrafter, streams: Tensor, following: list[int], *, first: int, count: int) -> list[int]:
        made = own(self, streams, following, first=first, count=count)
        at = first + len(following) + 1 - 126
        return [wanted[at], *made[1:]] if made and draw.random() < 0.75 else made

    monkeypatch.setattr(GpuDrafter, "propose", propose)
    found, steps = greedy(drafting, ids[:126], 7, 2)
    assert found == wanted
    assert 0 < steps.accepted < steps.drafted
    state = steps._state
    assert state.tokens.tolist() == [*ids[:126].tolist(), *wanted[:6]]
    state.check_integrity()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU: 240 steps")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_trained_predictor_saves_steps_on_a_gpu(dtype: torch.dtype) -> None:
    """Tokens with drafts, by captured steps, are those without."""
    fields = {"hidden_size": 32, "q_lora_rank": 32, "o_lora_rank": 16, "head_dim": 32, "index_head_dim": 32}
    model = trained_on_walks(steps=40, **fields).cuda().to(dtype)
    pool = PagePool(CacheLayout(model.config), capacity_tokens=2048, device="cuda", fixed=True)
    runner = GpuRunner(model, pool, slots=2)
    prompt = walks(1, 12, seed=99)[0].numpy()
    found = {draft: greedy(runner, prompt, 60, draft) for draft in (0, 1, 3)}
    assert found[0][0] == found[1][0] == found[3][0]
    assert found[0][1].steps == 59
    assert found[3][1].steps < found[1][1].steps < (45 if dtype == torch.float32 else 59)  # close choices run again
