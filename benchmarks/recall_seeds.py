"""Right answers on more cells than the published table holds: other documents and questions, drawn from other seeds.

Covers: what `octavo eval recall` measures, on the CPU, summed over seeds: how far one cell of 64 questions can be
trusted. Does not cover: controls, GPUs (`octavo eval recall`).

    python -m benchmarks.recall_seeds [--seeds 1 2 3] [--lengths 8K 32K] [--kinds fact] [--model octavo-xs]
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

import octavo
from octavo.bench.record import write_json
from octavo.bench.surroundings import RESULTS, surroundings
from octavo.data.tasks.cell import TEST_SEEDS
from octavo.engine.plan import parse_context
from octavo.evals.runner import RecallPlan, run_recall
from octavo.evals.texts import SHAKESPEARE


def main() -> None:
    """Parse, run, print, write `docs/results/recall_seeds.json`."""
    parser = argparse.ArgumentParser(description="Recall summed over cells of several seeds.")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="0 is the published cell's")
    parser.add_argument("--lengths", nargs="+", default=["8K", "32K"])
    parser.add_argument("--kinds", nargs="+", default=["fact"])
    parser.add_argument("--count", type=int, default=64, help="questions in each document")
    parser.add_argument("--model", default="octavo-xs")
    parser.add_argument("--out", type=Path, default=RESULTS / "recall_seeds.json")
    arguments = parser.parse_args()
    model = octavo.load(arguments.model)
    where = surroundings() | {"model": arguments.model, "fingerprint": model.fingerprint}
    cells, right, asked = [], Counter[tuple[str, int]](), Counter[tuple[str, int]]()
    for seed in arguments.seeds:
        plan = RecallPlan(
            cells=tuple((kind, SHAKESPEARE) for kind in arguments.kinds),
            lengths=tuple(map(parse_context, arguments.lengths)),
            count=arguments.count,
            seed=TEST_SEEDS + seed,
        )
        for result in run_recall(model, model.tokenizer, plan):
            key, hits = (result.kind, result.length), sum(outcome.right for outcome in result.outcomes)
            right[key] += hits
            asked[key] += len(result.outcomes)
            cells.append({"kind": key[0], "length": key[1], "seed": seed, "right": hits, "asked": len(result.outcomes)})
            print(f"{key[0]}, {key[1]:,} tokens, seed {seed}: {hits} of {len(result.outcomes)}", flush=True)
    for kind, length in asked:
        print(f"{kind}, {length:,} tokens, all: {right[kind, length]} of {asked[kind, length]}")
    write_json(arguments.out, where | {"cells": cells})


if __name__ == "__main__":
    main()
