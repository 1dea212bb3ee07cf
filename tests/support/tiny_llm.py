"""A tiny random model loaded the way a user loads one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from octavo.engine.llm import LLM, load
from tests.support.tiny import tiny_config, write_tiny_model

STORY = (
    "The keeper of the lighthouse wrote the date at the head of the page. The sea had brought a crate of oranges.\n"
    "He knew the name of the ship.\n\n"
    "The secret word of the keeper is heron. When the wind turned he went down again.\n"
)


def tiny_llm(folder: Path, *, seed: int = 1, chunk: int = 64, dtype: str = "float32", **fields: Any) -> LLM:
    """Write a random model with `tiny_config(**fields)` to `folder` and load it; a context of 4,096 unless told."""
    config = tiny_config(**({"max_position_embeddings": 4096} | fields))
    return load(write_tiny_model(folder, config, seed), dtype, chunk=chunk)
