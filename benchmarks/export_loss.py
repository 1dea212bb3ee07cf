"""What shipping loses: bits per byte and recall of one training's weights in BF16 and in the formats that ship.

Covers: two exports of the same weights (`python -m octavo.train.export`, without flags and with), each measured by the
same code on the same texts, documents and questions, and the table of their differences. Questions are paired: beside
the points, how many the shipped weights lost and won; a cell of N questions cannot show less than 100 / N points. The
goals: at most 0.01 bits per byte more, at most one point of a cell lower. Arithmetic is FP32 on the CPU and BF16 on a
GPU, for both. Does not cover: weights that were rounded after training (`benchmarks.int8`).

    python -m benchmarks.export_loss measure BF16_FOLDER --texts FILE ... --out bf16.json [--device cuda]
    python -m benchmarks.export_loss measure SHIPPED_FOLDER --texts FILE ... --out shipped.json [--device cuda]
    python -m benchmarks.export_loss compare bf16.json shipped.json
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import octavo
from octavo.bench.record import write_json
from octavo.bench.surroundings import RESULTS, gpu, surroundings
from octavo.engine.llm import LLM
from octavo.engine.plan import parse_context
from octavo.evals.language import OwnScorer, measure
from octavo.evals.recall import CellResult
from octavo.evals.runner import RecallPlan, run_recall
from octavo.evals.texts import SHAKESPEARE, texts

MOST_BITS, MOST_POINTS = 0.01, 1.0  # the goals
KINDS = ("fact", "multi_key", "quotation", "key_value")
ROOM = 65_536  # tokens of cache on a GPU beyond the longest document


def loaded(folder: str, device: str, longest: int) -> Any:
    """A model as `octavo eval recall` loads it."""
    dtype = "float32" if device == "cpu" else "bfloat16"
    return octavo.load(folder, dtype, device=device, capacity_tokens=None if device == "cpu" else longest + ROOM)


def language(model: LLM, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Bits per byte of each of the texts."""
    found = []
    for name in options.texts:
        parts = texts(name, most=options.most)
        made = measure(OwnScorer(model), parts, window=options.window, limit=options.characters)
        found.append({"text": Path(name).name, "bytes": made.bytes, "bits_per_byte": made.bits_per_byte})
        print(f"  {found[-1]['text']}: {made.bits_per_byte:.4f} bits per byte", flush=True)
    return found


def cell(result: CellResult) -> dict[str, Any]:
    """A cell with whether each of its answers was right, in order."""
    right = [int(outcome.right) for outcome in result.outcomes]
    print(f"  {result.kind} at {result.length:,} tokens: {sum(right)} of {len(right)}", flush=True)
    return {"kind": result.kind, "length": result.length, "right": right}


def measured(options: argparse.Namespace) -> None:
    """One export; the file is written after every cell, so that an interrupt keeps those that are done."""
    lengths = tuple(map(parse_context, options.lengths))
    model = loaded(options.folder, options.device, max(lengths))
    record = surroundings() | {
        "model": Path(options.folder).name, "fingerprint": model.fingerprint, "on": options.device, "path": model.path,
        "gpu": gpu() if options.device == "cuda" else None, "window": options.window,
        "characters": options.characters, "filler": options.filler, "texts": language(model, options),
        "cells": [],
    }  # fmt: skip
    plan = RecallPlan(cells=tuple((kind, options.filler) for kind in options.kinds), lengths=lengths,
                      count=options.count)  # fmt: skip
    write_json(options.out, record)
    for result in run_recall(model, model.tokenizer, plan):
        record["cells"].append(cell(result))
        write_json(options.out, record)


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[dict[str, Any]]:
    """A row for each text and cell: both values, the loss, the goal and whether it is met.

    Where one was interrupted, the cells that both have count, and a line says so. Raises SystemExit where the two did
    not measure the same.
    """
    for field in ("on", "window", "characters", "filler"):
        if before[field] != after[field]:
            raise SystemExit(f"{field} is {before[field]!r} in one record and {after[field]!r} in the other")
    rows: list[dict[str, Any]] = []
    for a, b in paired(before["texts"], after["texts"], ("text", "bytes")):
        loss = b["bits_per_byte"] - a["bits_per_byte"]
        rows.append({
            "what": f"bits per byte, {a['text']}", "bf16": a["bits_per_byte"], "shipped": b["bits_per_byte"],
            "loss": loss, "most": MOST_BITS, "met": loss <= MOST_BITS,
        })  # fmt: skip
    both = min(len(before["cells"]), len(after["cells"]))
    if not len(before["cells"]) == len(after["cells"]) == both:
        print(f"only the first {both} cells were measured of both", file=sys.stderr)
    for a, b in paired(before["cells"][:both], after["cells"][:both], ("kind", "length")):
        asked = len(a["right"])
        if asked != len(b["right"]):
            raise SystemExit(f"{a['kind']} at {a['length']:,} tokens: {asked} questions and {len(b['right'])}")
        one, two = 100 * sum(a["right"]) / asked, 100 * sum(b["right"]) / asked
        rows.append({
            "what": f"{a['kind']}, {a['length']:,} tokens", "bf16": one, "shipped": two, "loss": one - two,
            "most": MOST_POINTS, "met": one - two <= MOST_POINTS, "asked": asked,
            "lost": sum(x > y for x, y in zip(a["right"], b["right"], strict=True)),
            "won": sum(x < y for x, y in zip(a["right"], b["right"], strict=True)),
        })  # fmt: skip
    return rows


def paired(
    before: list[dict[str, Any]], after: list[dict[str, Any]], fields: tuple[str, ...]
) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Entries of both records in order; SystemExit unless they are the same ones."""
    kept = [[tuple(one[field] for field in fields) for one in side] for side in (before, after)]
    if kept[0] != kept[1]:
        raise SystemExit(f"the two records measured different things: {kept[0]} and {kept[1]}")
    return list(zip(before, after, strict=True))


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The differences in Markdown."""
    lines = [
        "| | BF16 | as shipped | loss | at most | met | asked | lost | won |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        digits = 4 if "asked" not in row else 1
        values = " | ".join(f"{row[name]:.{digits}f}" for name in ("bf16", "shipped"))
        counts = " | ".join(str(row.get(name, "")) for name in ("asked", "lost", "won"))
        met = "yes" if row["met"] else "no"
        lines.append(f"| {row['what']} | {values} | {row['loss']:+.{digits}f} | {row['most']:g} | {met} | {counts} |")
    return "\n".join(lines)


def compared(options: argparse.Namespace) -> None:
    """Print the table of two records and write both with it."""
    before, after = (json.loads(path.read_text("utf-8")) for path in (options.bf16, options.shipped))
    if before["fingerprint"] == after["fingerprint"]:
        raise SystemExit(f"{options.bf16} and {options.shipped} are of the same weights")
    rows = differences(before, after)
    page = {
        "title": f"What shipping loses: {after['model']}", "command": "python -m benchmarks.export_loss",
        "lines": table(rows).splitlines(),
    }  # fmt: skip
    record = {"benchmark": "export_loss", "page": page, "rows": rows, "bf16": before, "shipped": after}
    write_json(options.out, record)
    print(table(rows))


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, measure or compare."""
    parser = argparse.ArgumentParser(description="What the shipped formats lose against BF16.")
    verbs = parser.add_subparsers(required=True)
    one = verbs.add_parser("measure", help="one export")
    one.add_argument("folder")
    one.add_argument("--texts", nargs="*", default=[SHAKESPEARE], help="held-out files, or shakespeare")
    one.add_argument("--most", type=int, default=32, help="texts of a file, chosen evenly")
    one.add_argument("--filler", default=SHAKESPEARE, help="what documents are made of")
    one.add_argument("--kinds", nargs="+", default=list(KINDS))
    one.add_argument("--lengths", nargs="+", default=["8K", "32K"], help="tokens, as 8192 or 8K")
    one.add_argument("--count", type=int, default=128, help="questions in each document")
    one.add_argument("--window", type=int, default=2048, help="tokens")
    one.add_argument("--characters", type=int, default=20_000, help="of the beginning of each text")
    one.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    one.add_argument("--out", type=Path, required=True)
    one.set_defaults(run=measured)
    two = verbs.add_parser("compare", help="two exports that were measured")
    two.add_argument("bf16", type=Path)
    two.add_argument("shipped", type=Path)
    two.add_argument("--out", type=Path, default=RESULTS / "export_loss.json")
    two.set_defaults(run=compared)
    options = parser.parse_args(arguments)
    options.run(options)


if __name__ == "__main__":
    main()
