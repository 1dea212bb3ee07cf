"""A tiny model with both runners: the plain one, and the fused kernels' (Triton's interpreter where there is no GPU).

Long beginnings are read by the plain model, on the same states: the interpreter is slow, and controls that the kernels
lack go there.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from octavo.cache.layout import CacheLayout
from octavo.cache.pool import PagePool
from octavo.cache.state import SequenceState
from octavo.cache.view import Controls
from octavo.engine.gpu.runner import GpuRunner
from octavo.engine.llm import LLM
from octavo.engine.runner import Runner, StepOutput
from octavo.model.transformer import Transformer
from tests.support.tiny import build_model, random_tensors, tiny_config, tiny_engram
from tests.support.tiny_llm import tiny_llm

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
PLAIN = Controls(load=True)  # asks for what the kernels do not report
FIELDS: dict[str, Any] = {
    "hidden_size": 32, "q_lora_rank": 32, "o_groups": 2, "o_lora_rank": 32, "moe_intermediate_size": 32,
    "compress_ratios": (0, 4, 128), "max_position_embeddings": 4096, "head_dim": 32, "sliding_window": 32,
    "num_attention_heads": 2, "index_n_heads": 2,
}  # fmt: skip


def close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a.cpu(), b.cpu(), rtol=2e-4, atol=2e-4)


def begun(runner: Runner, ids: np.ndarray) -> SequenceState:
    """A state that has read `ids` by the plain model."""
    state = runner.new_state()
    runner.read(ids, state, controls=PLAIN)
    return state


def after(runner: Runner, state: SequenceState, ids: np.ndarray) -> StepOutput:
    return runner.step(ids, state, all_rows=True)


def small_model(**fields: Any) -> Transformer:
    """A CSA and an HCA layer, Engram, two heads, two streams; fields replaceable: steps of a second in the interpreter.

    Window layers and four streams are those of tests/model/gpu/test_forward.py.
    """
    usual: dict[str, Any] = {
        "num_hidden_layers": 2, "compress_ratios": (4, 128), "engram": tiny_engram("v41", (1,)), "hc_mult": 2,
        "hc_sinkhorn_iters": 3, "n_routed_experts": 4,
    }  # fmt: skip
    config = tiny_config(**(FIELDS | usual | fields))
    return build_model(config, random_tensors(config, 3)).to(DEVICE).eval().requires_grad_(False)


def smaller_model(**fields: Any) -> Transformer:
    """A CSA layer with Engram."""
    usual: dict[str, Any] = {"num_hidden_layers": 1, "compress_ratios": (4,), "engram": tiny_engram("v41", (0,))}
    return small_model(**(usual | fields))


def plain_runner(model: Transformer, **formats: Any) -> Runner:
    """The plain model's. formats: main, index."""
    return Runner(model, PagePool(CacheLayout(model.config, **formats), capacity_tokens=2048, device=DEVICE))


def gpu_runner(model: Transformer, *, tokens: int = 4096, slots: int = 3, **formats: Any) -> GpuRunner:
    """The fused kernels', over a pool of `tokens`."""
    pool = PagePool(CacheLayout(model.config, **formats), capacity_tokens=tokens, device=DEVICE, fixed=True)
    return GpuRunner(model, pool, chunk=64, slots=slots)


def gpu_llm(folder: Path, *, tokens: int = 65536, **fields: Any) -> LLM:
    """A tiny model with a tokenizer, in FP32 over the fused kernels, whose pool holds `tokens`."""
    usual: dict[str, Any] = {
        "num_hidden_layers": 3, "engram": tiny_engram("v41", (1,)), "hc_mult": 2, "hc_sinkhorn_iters": 3,
        "n_routed_experts": 4, "max_position_embeddings": 8192,
    }  # fmt: skip
    made = tiny_llm(folder, chunk=256, **(FIELDS | usual | fields))
    pool = PagePool(made.pool.layout, capacity_tokens=tokens, device=DEVICE, fixed=True)
    return LLM(made.model.to(DEVICE), made.tokenizer, pool, chunk=256, name="tiny")


@contextmanager
def interrupted(runner: GpuRunner, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What runs within is interrupted behind the model's launches, newly prepared."""
    forward = runner.gpu.forward

    def broken(*given: object, **options: object) -> Tensor:
        forward(*given, **options)  # pyright: ignore[reportArgumentType]
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(runner.gpu, "forward", broken)
        patch.setattr(runner.graphs, "_steps", {})
        with pytest.raises(KeyboardInterrupt):
            yield


def some_ids() -> np.ndarray:
    """400 ids."""
    return torch.randint(16, 380, (400,), generator=torch.Generator().manual_seed(5)).numpy()
