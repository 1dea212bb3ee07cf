"""Trains a small recipe as one of the ranks that torchrun started (or alone) and writes what came out.

Usage: torchrun ... -m tests.support.ranks_run OUT
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from octavo.train.loop import RunOptions, train
from octavo.train.parallel import Ranks
from tests.support.training import ROW, feed_of, small_recipe


def train_small(out: Path) -> dict[str, Any]:
    """Five steps; last log line, and the sum of every parameter's magnitudes."""
    ranks, device = Ranks.join("cpu")
    recipe = small_recipe(dense=3, sparse=2, tokens_per_step=8 * ROW)

    def feed(start: int) -> Iterator[dict[str, np.ndarray]]:
        for batch in feed_of(recipe, start):
            rows = len(batch["tokens"]) // ranks.count
            part = {name: value[ranks.index * rows :][:rows] for name, value in batch.items()}
            yield part | {"kind": (part["weight"] >= 1).astype(np.uint8)}

    ended = train(recipe, feed, RunOptions(out=out, device=str(device)), ranks=ranks)
    sums = {name: p.detach().abs().sum().item() for name, p in ended.model.named_parameters()}
    last = {name: value for name, value in ended.last.items() if name != "tokens_per_s"}
    result = {"steps": ended.steps, "last": last, "sums": sums}
    out.mkdir(parents=True, exist_ok=True)
    (out / f"rank-{ranks.index}.json").write_text(json.dumps(result))
    ranks.leave()
    return result


if __name__ == "__main__":
    train_small(Path(sys.argv[1]))
