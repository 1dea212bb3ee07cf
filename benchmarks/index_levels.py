"""What an index of two levels loses and saves: picks it shares with the exact index, right answers, seconds of reading.

Covers: a shipped model on the CPU, documents of the plays with planted facts; at each length the document is read with
two levels, and up to `--exact-limit` with the exact index too, and the same questions are asked. The overlap is the
share of the exact picks that two levels choose too, from the same queries and keys: in the last chunks of a reading in
two levels, runs of 8 queries at 16 places of each chunk, in all CSA layers, are chosen exactly beside; `mass` weighs
each pick by the softmax of its score. What that takes, `comparing_seconds`, is left out of the time of reading.
`others` are a
quarter, half and twice the blocks, for the same queries. Two levels begin with the first token (`--from-tokens`), not
where a configuration has them begin, behind what an exact reading takes hours for; where a length lies before that,
or two levels choose among all, shares are 1. Does not cover: other geometries' speed (`long_read`).

    python -m benchmarks.index_levels [--lengths 64K 256K 1M] [--model octavo-xs] [--count 32] [--exact-limit 256K]
                                      [--from-tokens 0]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
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

PLACES, RUN = 16, 8  # runs of so many queries at so many places of a chunk are compared
LEAST = PLACES * RUN  # queries of a chunk of the document; questions and answers have fewer
MORE = (0.25, 0.5, 2)  # times the blocks
Shares = list[tuple[float, float]]


def shares(exact: Tensor, coarse: Tensor, scores: Tensor) -> tuple[float, float]:
    """Of exact picks [S, k] (-1: none) the share that is among the coarse ones, by number and by softmax of scores."""
    found = torch.stack([torch.isin(a, b) for a, b in zip(exact, coarse, strict=True)]) & (exact >= 0)
    weight = scores.masked_fill(exact < 0, float("-inf")).softmax(-1)
    return float(found.sum() / (exact >= 0).sum()), float((weight * found).sum(-1).mean())


@dataclass
class Compared:
    """Shares by levels, and the seconds that comparing took."""

    shares: dict[Levels, Shares] = field(default_factory=dict)
    seconds: float = 0.0

    def means(self, levels: Levels) -> dict[str, Any]:
        """Mean shares of one choice of blocks."""
        pairs = self.shares[levels]
        overlap, mass = (sum(pair[at] for pair in pairs) / len(pairs) for at in (0, 1))
        return {
            "block_tokens": levels.block, "blocks": levels.best, "overlap": overlap, "mass": mass,
            "compared": len(pairs),
        }  # fmt: skip


@contextmanager
def compared(own: Levels, after: int, others: Sequence[Levels] = ()) -> Iterator[Compared]:
    """Some of the queries from token `after` on that choose in two levels choose exactly too, and with `others`."""
    choose, found = indexer.select_topk, Compared()

    def both(
        q: Tensor, w: Tensor, keys: Any, *, first: int, ratio: int, k: int, levels: Levels | None = None,
        bounds: Any = None,
    ) -> Any:  # fmt: skip
        chosen = choose(q, w, keys, first=first, ratio=ratio, k=k, levels=levels, bounds=bounds)
        if levels == own and first >= after and q.shape[1] >= LEAST and isinstance(chosen, Picked):
            started = time.perf_counter()
            for at in range(0, q.shape[1] - RUN + 1, q.shape[1] // PLACES):
                some = slice(at, at + RUN)
                exact = choose(q[:, some], w[:, some], keys, first=first + at, ratio=ratio, k=k)
                if not isinstance(exact, Picked):
                    continue
                scores = gathered_scores(q[:, some], w[:, some], keys.gather(exact.index.clamp_min(0)))
                for one in (own, *others):
                    coarse = chosen.index[:, some] if one == own else two_level_topk(
                        q[:, some], w[:, some], keys, first=first + at, ratio=ratio, k=k, levels=one
                    )  # fmt: skip
                    found.shares.setdefault(one, []).append(shares(exact.index[0], coarse[0], scores[0]))
            found.seconds += time.perf_counter() - started
        return chosen

    with mock.patch.object(indexer, "select_topk", both):
        yield found


def recall(model: Any, length: int, count: int) -> dict[str, Any]:
    """Right answers about facts, and the seconds of reading."""
    plan = RecallPlan(cells=(("fact", SHAKESPEARE),), lengths=(length,), count=count)
    [result] = run_recall(model, model.tokenizer, plan)
    right = sum(outcome.right for outcome in result.outcomes)
    return {"right": right, "asked": len(result.outcomes), "read_seconds": result.read_seconds}


def measure(name: str, length: int, count: int, *, after: int, exactly: bool) -> dict[str, Any]:
    """One length in two levels behind token `after`, and with the exact index if it is to be read with that too."""
    coarse = octavo.load(name, index_levels=2, index_from_tokens=after)
    levels = coarse.config.levels
    assert levels is not None
    recall(coarse, 4096, 1)  # loops are compiled
    others = [replace(levels, best=max(1, int(times * levels.best))) for times in MORE]
    with compared(levels, length - 2 * coarse.runner.chunk, others) as found:
        two = recall(coarse, length, count)
    if not found.shares:
        raise SystemExit(f"--lengths {length}: no query of the last two chunks chooses in two levels; it is too short")
    two["read_seconds"] -= found.seconds
    made: dict[str, Any] = {
        "tokens": length, "index_from_tokens": after, **found.means(levels), "exact": None, "two_levels": two,
        "speed_up": None, "comparing_seconds": found.seconds, "others": [found.means(other) for other in others],
    }  # fmt: skip
    if exactly:
        exact = octavo.load(name, index_levels=1)
        recall(exact, 4096, 1)
        made["exact"] = recall(exact, length, count)
        made["speed_up"] = made["exact"]["read_seconds"] / two["read_seconds"]
    return made


def told(run: dict[str, Any]) -> str:
    """One length in a line."""
    two, exact = run["two_levels"], run["exact"]
    said = (
        f"{run['tokens']:>9,} tokens: {run['overlap']:.3f} of the picks ({run['mass']:.3f} of their weight); facts in "
        f"two levels {two['right']} of {two['asked']}, read in {two['read_seconds']:.1f} s"
    )
    others = ", ".join(f"{one['blocks']} x {one['block_tokens']}: {one['overlap']:.3f}" for one in run["others"])
    if exact is not None:
        said += f"; exact {exact['right']}, {exact['read_seconds']:.1f} s, {run['speed_up']:.2f}x"
    return f"{said}; blocks {others}"


def table(runs: Sequence[dict[str, Any]]) -> list[str]:
    """All lengths in Markdown."""
    more = [f"with {one['blocks']} blocks" for one in runs[0]["others"]]
    heads = ["tokens", "exact picks found", "of their weight", *more, "facts, exact", "in two levels", "read s, exact",
             "in two levels"]  # fmt: skip
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for run in runs:
        exact, two = run["exact"], run["two_levels"]
        parts = [f"{run['tokens']:,}", *(f"{share:.3f}" for share in (run["overlap"], run["mass"]))]
        parts += [f"{one['overlap']:.3f}" for one in run["others"]]
        parts += ["", f"{two['right']} of {two['asked']}", "", f"{two['read_seconds']:.1f}"]
        if exact is not None:
            parts[-4], parts[-2] = f"{exact['right']} of {exact['asked']}", f"{exact['read_seconds']:.1f}"
        lines.append("| " + " | ".join(parts) + " |")
    return lines


def page(model: str, runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What the page of results shows."""
    after = runs[0]["index_from_tokens"]
    begin = f"behind token {after:,}" if after else "with the first token"
    return {
        "title": f"An index of two levels, {model}", "command": "python -m benchmarks.index_levels",
        "lines": [f"Two levels begin {begin} (`index_from_tokens` = {after}).", "", *table(runs)],
    }  # fmt: skip


def main() -> None:
    """Parse, run, print, write `docs/results/index_levels.json`."""
    parser = argparse.ArgumentParser(description="An index of two levels against the exact one.")
    parser.add_argument("--lengths", nargs="+", default=["64K", "256K", "1M"], help="tokens, as 65536 or 64K")
    parser.add_argument("--exact-limit", type=parse_context, default=2**18, help="longest reading with the exact index")
    parser.add_argument("--from-tokens", type=parse_context, default=0, help="tokens before two levels begin")
    parser.add_argument("--model", default="octavo-xs")
    parser.add_argument("--count", type=int, default=32, help="questions in each document")
    parser.add_argument("--out", type=Path, default=RESULTS / "index_levels.json")
    arguments = parser.parse_args()
    record: dict[str, Any] = surroundings() | {"model": arguments.model, "runs": []}
    for length in map(parse_context, arguments.lengths):
        exactly = length <= arguments.exact_limit
        run = measure(arguments.model, length, arguments.count, after=arguments.from_tokens, exactly=exactly)
        record["runs"].append(run)
        record["page"] = page(arguments.model, record["runs"])
        print(told(run), flush=True)
        write_json(arguments.out, record)


if __name__ == "__main__":
    main()
