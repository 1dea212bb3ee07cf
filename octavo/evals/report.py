"""Results as JSON and as a Markdown table, with 95 % intervals.

Covers: the two forms, writing them. Does not cover: running.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from octavo.evals.recall import CellResult
from octavo.evals.scoring import wilson

FORMAT = 1


def share(right: int, total: int) -> dict[str, Any]:
    """A share as JSON: right, asked, their ratio (None for none asked) and its 95 % interval."""
    low, high = wilson(right, total)
    return {"right": right, "asked": total, "share": right / total if total else None, "low": low, "high": high}


def cell_json(result: CellResult) -> dict[str, Any]:
    """One cell with its shares, times and every outcome."""
    return {
        "kind": result.kind, "text": Path(result.text).name, "length": result.length, "tokens": result.tokens,
        "seed": result.seed, "control": result.control, "recall": share(result.right, len(result.outcomes)),
        **({"chosen": share(*result.chosen)} if result.chosen[1] else {}),
        "first_source_covers": share(result.source_hits, result.right),
        "by_depth": [share(*part) for part in result.by_depth()],
        "by_mark": {mark: share(*part) for mark, part in result.by_mark().items()},
        "read_seconds": round(result.read_seconds, 3), "ask_seconds": round(result.ask_seconds, 3),
        "cache_bytes": result.cache_bytes, "outcomes": [asdict(outcome) for outcome in result.outcomes],
    }  # fmt: skip


def to_json(results: Sequence[CellResult], *, about: dict[str, Any] | None = None) -> str:
    """All cells; `about` says which model, machine and commit were measured."""
    document = {"format": FORMAT, "about": about or {}, "cells": [cell_json(result) for result in results]}
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def _percent(right: int, total: int) -> str:
    if total == 0:
        return "-"
    low, high = wilson(right, total)
    return f"{right / total:.2f} ({low:.2f}-{high:.2f})"


def to_markdown(results: Sequence[CellResult]) -> str:
    """A table of one line a cell: share of right answers with its interval, by quarter of the depth, source hits; below
    it a line for each cell whose answers were chosen among some too."""
    lines = [
        "| task | text | tokens | control | asked | right (95 %) | depth 1/4 | 2/4 | 3/4 | 4/4 | source | read s |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for result in results:
        depth = " | ".join(f"{right / asked:.2f}" if asked else "-" for right, asked in result.by_depth())
        asked, right = len(result.outcomes), result.right
        lines.append(
            f"| {result.kind} | {Path(result.text).name} | {result.tokens:,} | {result.control} | {asked} "
            f"| {_percent(right, asked)} | {depth} | {_percent(result.source_hits, right)} "
            f"| {result.read_seconds:.1f} |"
        )
    chosen = [
        f"{result.kind}, {result.tokens:,} tokens, {result.control}: the right one of the choices is likeliest in "
        f"{_percent(*result.chosen)} of {result.chosen[1]}."
        for result in results if result.chosen[1]
    ]  # fmt: skip
    return "\n".join([*lines, *(["", *chosen] if chosen else [])]) + "\n"


def write(results: Sequence[CellResult], folder: Path, *, about: dict[str, Any] | None = None) -> None:
    """Write `recall.json` and `recall.md` into `folder`, each whole or not at all."""
    write_texts(folder, {"recall.json": to_json(results, about=about), "recall.md": to_markdown(results)})


def write_texts(folder: Path, texts: Mapping[str, str]) -> None:
    """Write files by name into `folder`, which is made if it is not there, each whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in texts.items():
        partial = folder / f"{name}.partial"
        partial.write_text(content, "utf-8")
        partial.replace(folder / name)
