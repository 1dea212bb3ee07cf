"""Trains a small recipe as one of the ranks that torchrun started (or alone), as replicas and then with parameters
spread, and writes what came out.

Usage: torchrun ... -m tests.support.ranks_run OUT
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch.distributed as dist

from octavo.train.loop import RunOptions, train
from octavo.train.parallel.checkpoint import whole_weights
from octavo.train.parallel.layout import Layout
from octavo.train.parallel.ranks import Ranks
from tests.support.training import ROW, feed_of, small_recipe


def train_small(out: Path, layout: Layout | None = None, say: Path | None = None) -> dict[str, Any]:
    """Five steps into `out`, a result a rank into `say` (None: there too): the last log line, and the sum of every
    parameter's magnitudes (on the first rank alone, if spread)."""
    ranks, device = Ranks.join("cpu", layout)
    recipe = small_recipe(dense=3, sparse=2, tokens_per_step=8 * ROW)

    def feed(start: int) -> Iterator[dict[str, np.ndarray]]:
        for batch in feed_of(recipe, start):
            index, count = ranks.share
            rows = len(batch["tokens"]) // count
            part = {name: value[index * rows :][:rows] for name, value in batch.items()}
            yield part | {"kind": (part["weight"] >= 1).astype(np.uint8)}

    ended = train(recipe, feed, RunOptions(out=out, device=str(device)), ranks=ranks)
    weights = ended.model.state_dict() if layout is None else whole_weights(ended.model, ranks)
    sums = {name: weights[name].abs().sum().item() for name, _ in ended.model.named_parameters() if weights}
    # a rank's speed and its looks into its own rows are its own
    said = ended.last.items()
    last = {name: value for name, value in said if name not in ("tokens_per_s", "mfu") and not isinstance(value, list)}
    result = {"steps": ended.steps, "last": last, "sums": sums}
    say = say or out
    say.mkdir(parents=True, exist_ok=True)
    (say / f"rank-{ranks.index}.json").write_text(json.dumps(result))
    return result


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    train_small(folder)
    train_small(folder / "spread", Layout(fsdp=2, ep=2))
    train_small(folder / "spread", Layout(fsdp=4), folder / "later")  # goes on from the end
    dist.barrier()
    dist.destroy_process_group()
