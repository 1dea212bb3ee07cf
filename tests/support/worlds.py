"""Tiny models that compiled steps serve: exact index, two levels, Engram."""

from __future__ import annotations

from octavo.cache.layout import CacheLayout, RowFormat
from octavo.cache.pool import PagePool
from octavo.config.model import ModelConfig
from octavo.engine.runner import Runner
from tests.support.tiny import build_model, random_tensors, tiny_config, tiny_engram

LONG = {"max_position_embeddings": 4096}
LEVELS = {"index_levels": 2, "index_block_tokens": 16, "index_blocks": 4, "index_from_tokens": 0}
WORLDS = {
    "exact": tiny_config(**LONG),
    "two levels": tiny_config(**LONG, index_levels=2, index_blocks=9, index_from_tokens=64),
    "engram": tiny_config(**LONG, **LEVELS, engram=tiny_engram()),
}


def of_runner(config: ModelConfig = WORLDS["engram"], main: str = "fp32") -> Runner:
    """A runner in chunks of 64 over random weights."""
    layout = CacheLayout(config, main=RowFormat(main), index=RowFormat(main))
    model = build_model(config, random_tensors(config, 0))
    return Runner(model, PagePool(layout, capacity_tokens=512), chunk=64)
