"""A model's step through compiled parts: what single operations give, in every kind of world; which models have it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from octavo.cache.layout import CacheLayout, RowFormat
from octavo.cache.pool import PagePool
from octavo.cache.view import Controls
from octavo.config.model import ModelConfig
from octavo.engine.runner import Runner
from octavo.model import step
from octavo.model.int8 import to_int8
from tests.support.bodies import BODIES, COMPILED, needs_compiled, take
from tests.support.tiny import build_model, random_tensors, tiny_config, tiny_engram

LONG, LEVELS = {"max_position_embeddings": 4096}, {"index_levels": 2}
WORLDS = {
    "all kinds": (tiny_config(max_position_embeddings=4096), "fp32"),
    "engram": (tiny_config(max_position_embeddings=4096, engram=tiny_engram()), "fp32"),
    "two levels": (tiny_config(**LONG, **LEVELS, index_blocks=4, index_block_tokens=16, index_from_tokens=0), "fp32"),
    "entries alone": (tiny_config(**LONG, **LEVELS, index_blocks=9, index_from_tokens=128), "fp32"),
    "bf16 rows": (tiny_config(max_position_embeddings=4096), "bf16"),
    "fp8 rows": (tiny_config(max_position_embeddings=4096, head_dim=80), "fp8"),
    "odd widths": (tiny_config(max_position_embeddings=4096, num_attention_heads=6, moe_intermediate_size=22), "fp32"),
}


def of_runner(config: ModelConfig, main: str = "fp32") -> Runner:
    layout = CacheLayout(config, main=RowFormat(main), index=RowFormat("fp32" if main == "fp8" else main))
    model = build_model(config, random_tensors(config, 0))
    return Runner(model, PagePool(layout, capacity_tokens=512), chunk=64)


@needs_compiled
@pytest.mark.parametrize("read", [1, 28, 125, 300])
@pytest.mark.parametrize("world", WORLDS)
def test_steps_agree_with_numba_s_loops(world: str, read: int, monkeypatch: pytest.MonkeyPatch) -> None:
    config, main = WORLDS[world]
    runner = of_runner(config, main)
    ids = torch.randint(16, 380, (read + 12,), generator=torch.Generator().manual_seed(3)).numpy()
    before = runner.new_state()
    runner.read(ids[:read], before)
    found: dict[str, list[np.ndarray]] = {}
    for body in BODIES:
        take(body, monkeypatch)
        state, found[body] = before.fork(), []
        for n in range(read, read + 12):
            made = runner.step(ids[n : n + 1], state, controls=Controls(mass=True))
            found[body].append(made.logits[0].numpy())
            # picks come in another order
            found[body] += [mass.values[0, 0].sort().values.numpy() for each in made.reports for mass in each.mass]
        state.check_integrity()
    for body in COMPILED:
        for mine, other in zip(found[body], found["numba"], strict=True):
            np.testing.assert_allclose(mine, other, rtol=0, atol=1e-4 if main == "fp32" else 0.02)


@needs_compiled
@torch.inference_mode()
def test_which_models_step_so(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[int] = []
    plain = step.BlockStep.run

    def spy(self: step.BlockStep, *given: Any) -> Any:
        made = plain(self, *given)
        ran.extend([1] * (made is not None))
        return made

    monkeypatch.setattr(step.BlockStep, "run", spy)
    ids = np.arange(20, 23)
    for config, change, count in (
        (tiny_config(), None, 5),
        (tiny_config(), to_int8, 0),
        (tiny_config(quant_sim=True), None, 0),
    ):
        runner = of_runner(config)
        if change is not None:
            change(runner.model)
        ran.clear()
        runner.step(ids, runner.new_state())
        assert len(ran) == count
    runner.step(np.arange(20, 29), runner.new_state())
    assert not ran
