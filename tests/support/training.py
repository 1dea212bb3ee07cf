"""Small worlds for training tests: a model of a few thousand parameters, batches, plans, and a whole recipe."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from octavo.cache.view import Picks
from octavo.config.model import ModelConfig
from octavo.model.init import init_weights
from octavo.model.transformer import Transformer
from octavo.train.optim import OptimConfig, Optimizer
from octavo.train.recipes import Recipe
from octavo.train.schedule import Schedule, Stage, StepPlan
from octavo.train.step import Batch, LossWeights, train_step
from tests.support.tiny import tiny_config, tiny_engram

ROW = 32


def small_config(**overrides: Any) -> ModelConfig:
    """A window layer and a CSA layer with Engram, two streams, four experts: steps of some 40 ms."""
    fields: dict[str, Any] = {
        "vocab_size": 32,
        "compress_ratios": (0, 4) + (0,) * overrides.get("num_nextn_predict_layers", 0),
        "hidden_size": 24,
        "num_attention_heads": 2,
        "head_dim": 16,
        "qk_rope_head_dim": 8,
        "q_lora_rank": 16,
        "o_groups": 1,
        "o_lora_rank": 8,
        "sliding_window": 8,
        "index_n_heads": 2,
        "index_head_dim": 16,
        "index_topk": 4,
        "n_routed_experts": 4,
        "moe_intermediate_size": 16,
        "hc_mult": 2,
        "hc_sinkhorn_iters": 5,
        "engram": tiny_engram(layers=(1,), rows_per_head=31),
    }
    return tiny_config(**(fields | overrides))


def fresh(
    config: ModelConfig | None = None, *, seed: int = 0, optim: OptimConfig | None = None
) -> tuple[Transformer, Optimizer]:
    """An initialised model and its optimiser."""
    model = Transformer(config or small_config())
    init_weights(model, seed=seed)
    return model, Optimizer(dict(model.named_parameters()), model.config, optim or OptimConfig())


def random_batch(rows: int = 4, *, seed: int = 0, vocab: int = 32, length: int = ROW) -> Batch:
    """Random tokens; every third weighs 1 (an answer), the others 0.1."""
    tokens = torch.randint(0, vocab, (rows, length), generator=torch.Generator().manual_seed(seed))
    weight = torch.full((rows, length), 0.1)
    weight[:, ::3] = 1.0
    return Batch(tokens=tokens, weight=weight, positions=torch.arange(length).expand(rows, length))


def plan_of(*, topk: int | None = 4, rate: float = 1.0, length: int = ROW) -> StepPlan:
    """A step with the indexer's picks, or dense where `topk` is None."""
    picks = Picks.ALL if topk is None else Picks.INDEX
    return StepPlan(stage="test", row_length=length, topk=topk, picks=picks, rate=rate, skips=0.0)


def small_recipe(*, dense: int = 12, sparse: int = 8, **fields: Any) -> Recipe:
    """Two stages on `small_config`: rows of 32 with all entries, then rows of 32 or 64 with a drawn number of picks."""
    stages = (
        Stage(name="dense", steps=dense, row_lengths=(ROW,), warmup=3),
        Stage(name="sparse", steps=sparse, row_lengths=(ROW, 2 * ROW), shares=(0.5, 0.5), topk=(2, 4), final_rate=0.1),
    )
    given: dict[str, Any] = {
        "name": "small",
        "model": small_config(),
        "schedule": Schedule(stages=stages),
        "tokens_per_step": 4 * ROW,
        "recompute_from": 2 * ROW,
    }
    return Recipe(**(given | fields))


def feed_of(recipe: Recipe, start: int) -> Iterator[dict[str, np.ndarray]]:
    """Batches of steps start, start + 1, ...: each a function of its step alone, without end."""
    step = start
    while True:
        length = recipe.schedule.plan(min(step, recipe.schedule.steps - 1)).row_length
        rows = recipe.tokens_per_step // length
        tokens = np.random.default_rng((7, step)).integers(0, 32, (rows, length), dtype=np.uint16)
        weight = np.where(np.arange(length) % 3 == 0, 1.0, 0.1).astype(np.float32)
        positions = np.broadcast_to(np.arange(length, dtype=np.int32), (rows, length))
        yield {"tokens": tokens, "weight": np.tile(weight, (rows, 1)), "positions": positions}
        step += 1


def walks(rows: int, length: int, *, seed: int) -> torch.Tensor:
    """Rows of tokens [rows, length] below 32 that follow one rule nine times in ten, and another the tenth time."""
    draw = np.random.default_rng(seed)
    made = np.empty((rows, length), dtype=np.int64)
    made[:, 0] = draw.integers(0, 32, rows)
    for at in range(1, length):
        step = np.where(draw.random(rows) < 0.9, 3, 9)
        made[:, at] = (made[:, at - 1] * 5 + step) % 32
    return torch.from_numpy(made)


def trained_on_walks(*, steps: int, **overrides: Any) -> Transformer:
    """A small model with a predictor that has learned most of the rule of `walks`; its context is 512 tokens."""
    model, optimizer = fresh(small_config(num_nextn_predict_layers=1, max_position_embeddings=512, **overrides))
    weight, positions = torch.ones(8, ROW), torch.arange(ROW).expand(8, ROW)
    for step in range(steps):
        batch = Batch(tokens=walks(8, ROW, seed=step), weight=weight, positions=positions)
        train_step(model, optimizer, [batch], plan_of(), LossWeights(mtp=1.0))
    return model.eval().requires_grad_(False)
