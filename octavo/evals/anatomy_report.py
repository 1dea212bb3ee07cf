"""What `anatomy` found, as JSON and as pages: repairs, sorts of misses, layers.

Covers: shares with intervals by repair, misses by sort, means by layer of right and wrong answers. Does not cover:
measuring.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean, median
from typing import Any

from octavo.evals.anatomy import ATTENDED, PICKED, REPAIRS, SORTS, Anatomy, AnatomyCell, sorted_by_repair
from octavo.evals.report import share, write_texts

FORMAT = 1
_KINDS = {0: "window", 4: "CSA", 128: "HCA"}


def cell_json(cell: AnatomyCell) -> dict[str, Any]:
    """One cell: shares by repair, sorts, layers, and every question."""
    right = [one for one in cell.questions if one.right]
    wrong = [one for one in cell.questions if not one.right]
    return {
        "kind": cell.kind, "text": Path(cell.text).name, "length": cell.length, "tokens": cell.tokens,
        "seed": cell.seed, "read_seconds": round(cell.read_seconds, 3), "ask_seconds": round(cell.ask_seconds, 3),
        **({} if cell.sifted is None else {"sifted": share(*cell.sifted)}),
        "repairs": {name: _repair(name, right, wrong) for name in REPAIRS},
        "misses": {
            "by_attention": {sort: sum(one.sort == sort for one in wrong) for sort in SORTS},
            "by_repair": {
                sort: sum(sorted_by_repair(one.repaired_by or "") == sort for one in wrong) for sort in SORTS
            },
            "repaired_by": {
                name: sum(one.repaired_by == name for one in wrong) for name in [*list(REPAIRS)[1:], "nothing"]
            },
        },
        "reached": {
            "right": {"picked": _mean([one.reached[0] for one in right]),
                      "strongest": _mean([one.reached[1] for one in right])},
            "wrong": {"picked": _mean([one.reached[0] for one in wrong]),
                      "strongest": _mean([one.reached[1] for one in wrong])},
        },
        "layers": {"right": _layers(right), "wrong": _layers(wrong)},
        "questions": [asdict(one) for one in cell.questions],
    }  # fmt: skip


def _mean(numbers: Sequence[float]) -> float | None:
    return fmean(numbers) if numbers else None


def _repair(name: str, right: Sequence[Anatomy], wrong: Sequence[Anatomy]) -> dict[str, Any]:
    """All right answers under a repair, the misses it repairs, the right ones it breaks, and what it adds to the mean
    log-probability of the expected answers' tokens."""
    kept, repaired = (sum(one.tried[name].right for one in group) for group in (right, wrong))
    gain = [one.tried[name].logprob - one.tried["none"].logprob for one in wrong]
    return {
        "right": share(kept + repaired, len(right) + len(wrong)), "repaired": share(repaired, len(wrong)),
        "broken": share(len(right) - kept, len(right)), "part": _mean([o.tried[name].part for o in [*right, *wrong]]),
        "logprob_gain_of_misses": _mean(gain),
    }  # fmt: skip


def _layers(questions: Sequence[Anatomy]) -> list[dict[str, Any]]:
    """Means over questions of the rows that decide, of ranks the median, a line for each layer."""
    lines = []
    for rows in zip(*(one.layers for one in questions), strict=True):
        line: dict[str, Any] = {"layer": rows[0].layer, "kind": _KINDS[rows[0].ratio], "entries": rows[0].entries}
        if rows[0].picked is not None:
            line |= {"picked": fmean(row.picked for row in rows), "rank": median(row.rank for row in rows)}
        for name in ("evidence", "strongest", "others", "window", "sink", "entropy"):
            line[name] = fmean(getattr(row, name) for row in rows)
        lines.append(line)
    return lines


def to_json(cells: Sequence[AnatomyCell], *, about: dict[str, Any] | None = None) -> str:
    """All cells; `about` says which model, machine and version were measured."""
    limits = {"picked": PICKED, "attended": ATTENDED}
    document = {"format": FORMAT, "about": about or {}, "limits": limits, "cells": [cell_json(one) for one in cells]}
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def _percent(found: dict[str, Any]) -> str:
    if not found["asked"]:
        return "-"
    return f"{found['right']} of {found['asked']} ({found['low']:.2f}-{found['high']:.2f})"


def _cell_page(found: dict[str, Any]) -> list[str]:
    lines = [f"## {found['kind']}, {found['tokens']:,} tokens, {found['text']}", ""]
    if "sifted" in found:
        taken = found["repairs"]["none"]["right"]
        lines += [f"As it is: {_percent(found['sifted'])}. Taken apart: {taken['asked']}, misses first.", ""]
    lines += ["| change | right (95 %) | misses repaired (95 %) | right ones broken (95 %) | log-probability, misses |",
              "|---|---|---|---|---|"]  # fmt: skip
    for name, row in found["repairs"].items():
        gain = row["logprob_gain_of_misses"]
        cells = [_percent(row["right"]), _percent(row["repaired"]), _percent(row["broken"])]
        lines.append(f"| {name} | {' | '.join(cells)} | {'-' if gain is None else f'{gain:+.2f}'} |")
    misses = found["misses"]
    told = [f"{by.replace('_', ' ')}: " + ", ".join(f"{sort} {n}" for sort, n in misses[by].items())
            for by in ("by_attention", "by_repair")]  # fmt: skip
    lines += ["", "Misses " + "; ".join(told) + ".", ""]
    lines += ["| layer | answers | picked | rank | evidence | strongest head | other entries | window | sink | bits |",
              "|---|---|---|---|---|---|---|---|---|---|"]  # fmt: skip
    pairs = [(row["layer"], which, row) for which in ("right", "wrong") for row in found["layers"][which]]
    for _, which, row in sorted(pairs, key=lambda pair: pair[:2]):
        picks = f"{row['picked']:.2f} | {row['rank']:g}" if "picked" in row else "- | -"
        numbers = [row[name] for name in ("evidence", "strongest", "others", "window", "sink")]
        numbers = " | ".join(f"{number:.3f}" for number in numbers)
        lines.append(f"| {row['layer']} {row['kind']} | {which} | {picks} | {numbers} | {row['entropy']:.1f} |")
    return [*lines, ""]


def to_markdown(cells: Sequence[AnatomyCell]) -> str:
    """Two tables a cell: what each change does to the answers, and each layer's attention at the deciding row."""
    return "\n".join(line for cell in cells for line in _cell_page(cell_json(cell)))


def write(cells: Sequence[AnatomyCell], folder: Path, *, about: dict[str, Any] | None = None) -> None:
    """Write `anatomy.json` and `anatomy.md` into `folder`, each whole or not at all."""
    write_texts(folder, {"anatomy.json": to_json(cells, about=about), "anatomy.md": to_markdown(cells)})
