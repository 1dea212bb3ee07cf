"""What recall hangs on: the same questions with random picks, without the 128:1 layers, with an index of two levels,
and with other numbers of picks.

Covers: kinds of cells by length, on the CPU; each document is read and asked anew in every way, and each way is set
beside the model as it is: right answers, how many of those became wrong and how many wrong ones right. The kinds that
ask for the gist are `ordering`, `counting` and `work` (which play or book); the last has a second line, of titles that
are held likeliest among those of the document. `index of two levels` is the model loaded with `index_levels=2`, which
begins with the first token here (`index_from_tokens=0`); what it looks into is in the record. Does not cover: why
answers are wrong (`octavo eval anatomy`), any words in place of quotations (`octavo eval recall --controls`).

    python -m benchmarks.recall_controls [--model octavo-s] [--kinds ordering counting work] [--lengths 8K 32K]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import octavo
from octavo.bench.record import write_json
from octavo.bench.surroundings import RESULTS, surroundings
from octavo.cache.view import Controls, Picks
from octavo.config.levels import INDEX_FIELDS
from octavo.data.tasks.cell import build_cell
from octavo.engine.plan import parse_context
from octavo.evals.recall import run_cell
from octavo.evals.runner import RecallPlan
from octavo.evals.scoring import wilson
from octavo.evals.texts import SHAKESPEARE, filler, works

AS_IS, TWO_LEVELS = "as it is", "index of two levels"
KINDS = ("fact", "multi_key", "two_hop_steps", "ordering", "counting", "work", "speaker")


def ways(topk: Sequence[int]) -> dict[str, Controls | None]:
    """Ways of reading and asking by name; the two levels are no control but another model."""
    found: dict[str, Controls | None] = {
        AS_IS: None, "random picks": Controls(picks=Picks.RANDOM), "HCA off": Controls(hca=False), TWO_LEVELS: None,
    }  # fmt: skip
    return found | {f"{k} picks": Controls(index_topk=k) for k in topk}


def measured(options: argparse.Namespace, record: dict[str, Any]) -> None:
    """All cells in all ways, shortest documents first; the record is written after every cell."""
    one, two = octavo.load(options.model), octavo.load(options.model, index_levels=2, index_from_tokens=0)
    record |= {"model": Path(options.model).name, "fingerprint": one.fingerprint, "topk": one.config.index_topk}
    record[TWO_LEVELS] = {name: getattr(two.config, name) for name in INDEX_FIELDS}
    record["page"] = {
        "title": f"What recall of {record['model']} hangs on", "command": "python -m benchmarks.recall_controls",
        "lines": [],
    }  # fmt: skip
    text, apart = filler(options.text), works(options.text)
    plan = RecallPlan(cells=(("fact", options.text),), lengths=(1,))
    for length in sorted(map(parse_context, options.lengths)):
        for kind in options.kinds:
            cell = build_cell(
                kind, length, plan.seed, text=text, tokenizer=one.tokenizer, count=options.count, works=apart
            )
            made: dict[str, Any] = {"kind": kind, "length": length, "tokens": cell.tokens, "right": {}, "seconds": {}}
            record["cells"].append(made)
            for name, controls in ways(options.topk).items():
                model: Any = two if name == TWO_LEVELS else one
                started = time.perf_counter()
                result = run_cell(model, cell, control=name, options={"controls": controls, "with_sources": False})
                made["right"][name] = [int(outcome.right) for outcome in result.outcomes]
                if result.chosen[1]:
                    chance = sum(1 / len(question.choices) for question in cell.questions) / len(cell.questions)
                    made.setdefault("chosen", {"chance": chance, "right": {}})
                    made["chosen"]["right"][name] = [int(bool(outcome.chosen)) for outcome in result.outcomes]
                made["seconds"][name] = time.perf_counter() - started
            record["page"]["lines"] = table(record).splitlines()
            write_json(options.out, record)
            print("\n".join(rows(made)), flush=True)


def rows(cell: dict[str, Any]) -> list[str]:
    """The cell's rows of the table: answers as they were written and, where there were choices, the likeliest ones."""
    found = [line(cell)]
    if "chosen" in cell:
        title = f"{cell['kind']}, likeliest title (chance {cell['chosen']['chance']:.2f})"
        found.append(line({**cell, "kind": title, "right": cell["chosen"]["right"]}))
    return found


def line(cell: dict[str, Any]) -> str:
    """A row of the table: of the model as it is the share with its interval, of the others the difference."""
    plain = cell["right"][AS_IS]
    low, high = wilson(sum(plain), len(plain))
    parts = [cell["kind"], f"{cell['length']:,}", str(len(plain)), f"{sum(plain)} ({low:.2f}-{high:.2f})"]
    for name, right in cell["right"].items():
        if name != AS_IS:
            lost = sum(a > b for a, b in zip(plain, right, strict=True))
            won = sum(a < b for a, b in zip(plain, right, strict=True))
            parts.append(f"{sum(right)} (-{lost} +{won})")
    return "| " + " | ".join(parts) + " |"


def table(record: dict[str, Any]) -> str:
    """All cells; a number in brackets: right answers lost and won against the model as it is."""
    names = list(record["cells"][0]["right"])
    heads = ["kind", "tokens", "asked", f"{AS_IS} (95 %)", *names[1:]]
    told = [row for cell in record["cells"] for row in rows(cell)]
    return "\n".join(["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads), *told])


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, run, print, write `docs/results/recall_controls_<model>.json`."""
    parser = argparse.ArgumentParser(description="Recall with parts of the model changed.")
    parser.add_argument("--model", default="octavo-s", help="shipped model or folder")
    parser.add_argument("--kinds", nargs="+", default=list(KINDS))
    parser.add_argument("--lengths", nargs="+", default=["8K", "32K"], help="tokens, as 8192 or 8K")
    parser.add_argument("--count", type=int, default=64, help="questions in each document")
    parser.add_argument("--topk", type=int, nargs="*", default=[64, 1024], help="numbers of picks to try")
    parser.add_argument("--text", default=SHAKESPEARE, help="what documents are made of")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    short = Path(options.model).name.replace("-", "_")
    options.out = options.out or RESULTS / f"recall_controls_{short}.json"
    record: dict[str, Any] = {"benchmark": "recall_controls", "about": surroundings(), "cells": []}
    measured(options, record)
    print(table(record))


if __name__ == "__main__":
    main()
