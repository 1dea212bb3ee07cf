"""The page of tables about what models can do, from records of recall, language and other benchmarks.

Covers: right answers by kind and length, bits per byte of all models on the same bytes, and the tables that records
bring along as `page` (title, command, lines). Does not cover: speed (`table`, `headlines`), measuring, what the tables
mean (docs/evaluation.md).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from octavo.bench.figures import context
from octavo.bench.recall import recall_cells
from octavo.bench.record import BenchError

MODELS = ("octavo-s", "octavo-xs")
_FLOOR = "xz -9"


def evaluation_page(results: Path) -> str | None:
    """The page in Markdown, from the JSON files of the folder `results`; None where none of them is for it.

    BenchError names a record that is malformed.
    """
    parts = [*_recall(results), *_language(results), *_pages(results)]
    if not parts:
        return None
    said = "Made by `octavo bench report` from the records in `docs/results`; docs/evaluation.md says what they mean."
    head = ["# Tables of what the models can do", "", said]
    return "\n".join([*head, *parts]) + "\n"


def _recall(results: Path) -> Iterable[str]:
    """Right of asked by kind and length, of each model's newest cells."""
    for model in MODELS:
        cells = {(cell["kind"], cell["length"]): cell["recall"] for cell in recall_cells(results, model)}
        if not cells:
            continue
        kinds = sorted({kind for kind, _ in cells}, key=lambda kind: (_order(cells, kind), kind))
        lengths = sorted({length for _, length in cells})
        yield from ("", f"## Recall of {model}", "", "Right answers of those asked, with 95 % intervals.", "")
        yield "| kind | " + " | ".join(context(length) for length in lengths) + " |"
        yield "|" + "---|" * (len(lengths) + 1)
        for kind in kinds:
            row = (_said(cells.get((kind, length))) for length in lengths)
            yield f"| {kind} | " + " | ".join(row) + " |"


def _order(cells: dict[tuple[str, int], Any], kind: str) -> float:
    """The best first, by the shortest documents."""
    return -cells[kind, min(length for one, length in cells if one == kind)]["share"]


def _said(share: dict[str, Any] | None) -> str:
    if share is None:
        return ""
    return f"{share['right']} of {share['asked']} ({share['low']:.2f}-{share['high']:.2f})"


def _language(results: Path) -> Iterable[str]:
    lines = language_lines(results)
    if lines:
        yield from ("", "## Bits per byte", "", "`python -m benchmarks.language`; the fewer the better.", "", *lines)


def language_lines(results: Path) -> list[str]:
    """A line for each text of so many bytes, a column for each model that a record `language_*.json` has of it."""
    rows: dict[tuple[str, int], dict[str, float]] = {}
    for path, content in _records(results, "language_*.json"):
        try:
            for one in content["texts"]:
                rows.setdefault((one["text"], one["bytes"]), {}).update(one["bits_per_byte"])
        except (KeyError, TypeError) as error:
            raise BenchError(f"{path}: no record of language: {error!r}") from None
    names = [*sorted({name for row in rows.values() for name in row} - {_FLOOR}), _FLOOR]
    lines = ["| text | bytes | " + " | ".join(names) + " |", "|" + "---|" * (len(names) + 2)]
    for (text, size), row in sorted(rows.items()):
        lines.append(f"| {text} | {size:,} | " + " | ".join(f"{row[n]:.3f}" if n in row else "" for n in names) + " |")
    return lines if rows else []


def _pages(results: Path) -> Iterable[str]:
    """Tables that records bring along."""
    for path, content in _records(results, "*.json"):
        page = content.get("page")
        if page is None:
            continue
        try:
            title, command, lines = page["title"], page["command"], list(page["lines"])
        except (KeyError, TypeError) as error:
            raise BenchError(f"{path}: field page is malformed: {error!r}") from None
        yield from ("", f"## {title}", "", f"`{command}`; `{path.name}`.", "", *lines)


def _records(results: Path, pattern: str) -> Iterable[tuple[Path, dict[str, Any]]]:
    for path in sorted(results.glob(pattern)):
        try:
            content = json.loads(path.read_text("utf-8"))
        except ValueError as error:
            raise BenchError(f"{path}: not JSON: {error}") from None
        if isinstance(content, dict):
            yield path, content
