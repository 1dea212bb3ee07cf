"""What an index of two levels loses and saves: picks it shares with the exact index, right answers, seconds of reading.

Covers: a shipped model on the CPU, documents of the plays with planted facts; at each length the document is read with
the exact index and with two levels, and the same questions are asked. The overlap is the share of the exact picks that
two levels choose too, from the same queries and keys, over queries of the last chunk and all CSA layers; `mass` weighs
each pick by the softmax of its score. Does not cover: other geometries' speed (`long_read`).

    python -m benchmarks.index_levels [--lengths 64K 256K 1M] [--model octavo-xs] [--count 32]
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor

import octavo
from octavo.bench.record import write_json
from octavo.bench.surroundings import RESULTS, surroundings
from octavo.engine.plan import parse_context
from octavo.evals.runner import RecallPlan, run_recall
from octavo.evals.texts import SHAKESPEARE
from octavo.kernels.index_topk import Levels, gathered_scores, two_level_topk
from octavo.kernels.selection import Picked
from octavo.model import indexer

EVERY = 16  # of a chunk's queries that are compared
LEAST = 128  # queries of a chunk of the document; questions and answers have fewer
Shares = list[tuple[float, float]]


def shares(exact: Tensor, coarse: Tensor, scores: Tensor) -> tuple[float, float]:
    """Of exact picks [S, k] (-1: none) the share that is among the coarse ones, by number and by softmax of scores."""
    found = torch.stack([torch.isin(a, b) for a, b in zip(exact, coarse, strict=True)]) & (exact >= 0)
    weight = scores.masked_fill(exact < 0, float("-inf")).softmax(-1)
    return float(found.sum() / (exact >= 0).sum()), float((weight * found).sum(-1).mean())


@contextmanager
def compared(levels: Levels, after: int, into: Shares) -> Iterator[None]:
    """Queries from token `after` on that choose exactly are compared with two levels."""
    choose = indexer.select_topk

    def both(
        q: Tensor, w: Tensor, keys: Any, *, first: int, ratio: int, k: int, levels: Levels | None = None,
        bounds: Any = None,
    ) -> Any:  # fmt: skip
        chosen = choose(q, w, keys, first=first, ratio=ratio, k=k, levels=levels, bounds=bounds)
        if levels is None and first >= after and q.shape[1] >= LEAST and isinstance(chosen, Picked):
            coarse = two_level_topk(q, w, keys, first=first, ratio=ratio, k=k, levels=asked)
            some = slice(EVERY - 1, None, EVERY)
            index = chosen.index[:, some]
            scores = gathered_scores(q[:, some], w[:, some], keys.gather(index.clamp_min(0)))
            into.append(shares(index[0], coarse[0, some], scores[0]))
        return chosen

    asked = levels
    with mock.patch.object(indexer, "select_topk", both):
        yield


def recall(model: Any, length: int, count: int) -> dict[str, Any]:
    """Right answers about facts, and the seconds of reading."""
    plan = RecallPlan(cells=(("fact", SHAKESPEARE),), lengths=(length,), count=count)
    [result] = run_recall(model, model.tokenizer, plan)
    right = sum(outcome.right for outcome in result.outcomes)
    return {"right": right, "asked": len(result.outcomes), "read_seconds": result.read_seconds}


def measure(name: str, length: int, count: int) -> dict[str, Any]:
    """One length with both indexes."""
    exact, coarse = octavo.load(name), octavo.load(name, index_levels=2)
    levels = Levels(coarse.config.index_block_tokens, coarse.config.index_blocks)
    for model in (exact, coarse):
        recall(model, 4096, 1)  # loops are compiled
    one, two = recall(exact, length, count), recall(coarse, length, count)
    found: Shares = []
    with compared(levels, length - 2 * exact.runner.chunk, found):  # a reading of its own: comparing takes time
        recall(exact, length, 1)
    overlap, mass = (sum(pair[at] for pair in found) / len(found) for at in (0, 1))
    return {
        "tokens": length, "block_tokens": levels.block, "blocks": levels.best, "overlap": overlap, "mass": mass,
        "compared": len(found), "exact": one, "two_levels": two,
        "speed_up": one["read_seconds"] / two["read_seconds"],
    }  # fmt: skip


def main() -> None:
    """Parse, run, print, write `docs/results/index_levels.json`."""
    parser = argparse.ArgumentParser(description="An index of two levels against the exact one.")
    parser.add_argument("--lengths", nargs="+", default=["64K", "256K"], help="tokens, as 65536 or 64K")
    parser.add_argument("--model", default="octavo-xs")
    parser.add_argument("--count", type=int, default=32, help="questions in each document")
    parser.add_argument("--out", type=Path, default=RESULTS / "index_levels.json")
    arguments = parser.parse_args()
    record: dict[str, Any] = surroundings() | {"model": arguments.model, "runs": []}
    for length in map(parse_context, arguments.lengths):
        record["runs"].append(measure(arguments.model, length, arguments.count))
        r = record["runs"][-1]
        print(
            f"{length:>9,} tokens: {r['overlap']:.3f} of the picks ({r['mass']:.3f} of their weight), facts exact "
            f"{r['exact']['right']}, two levels {r['two_levels']['right']} of {r['exact']['asked']}; read in "
            f"{r['exact']['read_seconds']:.1f} and {r['two_levels']['read_seconds']:.1f} s, {r['speed_up']:.2f}x",
            flush=True,
        )
        write_json(arguments.out, record)


if __name__ == "__main__":
    main()
