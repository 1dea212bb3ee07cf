"""Two results of the facts test beside each other: a model with Engram, its memory changed, and its twin without.

Covers: reading two `facts.json`, the same questions in both, shares by exposures, wording and book, differences of
pairs with intervals, what the test asks for, JSON and the page. Does not cover: asking (`facts_run`), training twins
(`runs.engram_twins`).

Both models are asked the same questions, so a difference is that of pairs and its interval Newcombe's for pairs.

    python -m octavo.evals.facts_compare ENGRAM/facts.json PLAIN/facts.json --out FOLDER
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from octavo.config.errors import OctavoError, UsageError
from octavo.evals.engram import MEMORY
from octavo.evals.facts_run import FORMAT, FactOutcome
from octavo.evals.report import share, write_texts
from octavo.evals.scoring import wilson

TWIN = "without Engram"
NAMES = dict(zip(MEMORY, ("Engram", "Engram off", "rows permuted"), strict=True))
WITHIN = 0.05
"""Shares of open-book answers that count as the same differ by at most this."""
_COUNTED: Mapping[str, Callable[[FactOutcome], bool]] = {
    "choice": lambda one: one.chosen == 0, "exact": lambda one: one.right,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One `facts.json`: what it is about, and its outcomes by control."""

    about: dict[str, Any]
    arms: dict[str, dict[tuple[str, str], FactOutcome]]


def read(path: Path) -> Result:
    """A result as `octavo eval facts --out` writes it. Raises UsageError for what is none."""
    try:
        document = json.loads(path.read_text("utf-8"))
        outcomes = [FactOutcome(**row) for row in document["outcomes"]]
        about, version = dict(document["about"]), document["format"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path} is no result of octavo eval facts: {error}") from None
    if version != FORMAT:
        raise UsageError(f"{path} has format {version!r}, only {FORMAT} is read")
    arms: dict[str, dict[tuple[str, str], FactOutcome]] = {}
    for one in outcomes:
        arms.setdefault(one.control, {})[one.id, one.book] = one
    return Result(about=about, arms=arms)


def compare(engram: Result, plain: Result) -> dict[str, Any]:
    """Shares of every arm and what they come to, as JSON.

    Raises UsageError where the results are not of a model with Engram and one without, or not of the same questions.
    """
    if not engram.about.get("engram") or plain.about.get("engram"):
        raise UsageError("two results are compared: first that of a model with Engram, then that of one without")
    arms = {NAMES[control]: engram.arms[control] for control in MEMORY if control in engram.arms}
    if "none" not in engram.arms or "none" not in plain.arms:
        raise UsageError("a result lacks the model as it is")
    arms = {TWIN: plain.arms["none"], **arms}
    asked = {key: (one.expected, one.choices) for key, one in arms[TWIN].items()}
    for name, found in arms.items():
        if {key: (one.expected, one.choices) for key, one in found.items()} != asked:
            raise UsageError(f"the results are of other questions: {TWIN} has {len(asked)}, {name} {len(found)}")
    cells: dict[tuple[Any, ...], list[tuple[str, str]]] = {}
    whole: dict[tuple[Any, ...], list[tuple[str, str]]] = {}
    for key, one in arms[TWIN].items():
        cells.setdefault((one.book, one.wording, one.group, one.exposures), []).append(key)
        whole.setdefault((one.book, one.wording, one.group, None), []).append(key)
    return {
        "format": FORMAT, "about": {"engram": engram.about, "plain": plain.about}, "arms": list(arms),
        "cells": [_cell(place, keys, arms) for place, keys in cells.items()],
        "totals": [_cell(place, keys, arms) for place, keys in whole.items()], "asks": _asks(arms),
    }  # fmt: skip


def _cell(
    place: tuple[Any, ...], keys: Sequence[tuple[str, str]], arms: Mapping[str, Mapping[tuple[str, str], FactOutcome]]
) -> dict[str, Any]:
    """Shares of each arm among the questions of a place, and by how much Engram beats the twin."""
    found: dict[str, Any] = dict(zip(("book", "wording", "group", "exposures"), place, strict=True))
    found["chance"] = sum(1 / arms[TWIN][key].choices for key in keys) / len(keys)
    for what, counts in _COUNTED.items():
        right = {name: [counts(arm[key]) for key in keys] for name, arm in arms.items()}
        found[what] = {name: share(sum(marks), len(marks)) for name, marks in right.items()}
        found[f"{what}_difference"] = difference(right[NAMES["none"]], right[TWIN])
    return found


def difference(ours: Sequence[bool], theirs: Sequence[bool]) -> dict[str, float]:
    """Share right of `ours` less that of `theirs`, of the same questions in the same order, with a 95 % interval.

    R. G. Newcombe, Improved confidence intervals for the difference between binomial proportions based on paired data
    (1998), method 10. Raises UsageError for no questions.
    """
    n = len(ours)
    if not n or n != len(theirs):
        raise UsageError(f"a difference needs as many answers of both, at least 1; got {n} and {len(theirs)}")
    pairs = list(zip(ours, theirs, strict=True))
    both, one, other, none = (
        pairs.count(kind) for kind in ((True, True), (True, False), (False, True), (False, False))
    )
    p, q = (both + one) / n, (both + other) / n
    (p_low, p_high), (q_low, q_high) = wilson(both + one, n), wilson(both + other, n)
    product = both * none - one * other
    product = max(product - n / 2, 0) if product > 0 else product
    scale = math.sqrt((both + one) * (other + none) * (both + other) * (one + none))
    phi = product / scale if scale else 0.0

    def reach(up: float, down: float) -> float:
        return math.sqrt(max(0.0, up * up - 2 * phi * up * down + down * down))

    return {
        "points": p - q, "low": p - q - reach(p - p_low, q_high - q), "high": p - q + reach(p_high - p, q - q_low),
    }  # fmt: skip


def _asks(arms: Mapping[str, Mapping[tuple[str, str], FactOutcome]]) -> dict[str, Any]:
    """What the test asks for. memory_share: of choices above chance, closed book, how many are left in each arm (None
    where there are none). open_book: differences to the model as it is. never: which arms are at chance."""

    def chosen(name: str, book: str, group: str) -> list[bool]:
        return [one.chosen == 0 for one in arms[name].values() if one.book == book and one.group == group]

    def above(name: str) -> float:
        kept = [one for one in arms[name].values() if one.book == "closed" and one.group != "never"]
        return sum((one.chosen == 0) - 1 / one.choices for one in kept) / max(1, len(kept))

    mine, others = NAMES["none"], [name for name in arms if name != NAMES["none"]]
    best = above(mine)
    found: dict[str, Any] = {
        "memory_share": {name: above(name) / best if best > 0 else None for name in others}, "open_book": {},
        "never_at_chance": {},
    }  # fmt: skip
    groups = {one.group for one in arms[TWIN].values()}
    for name in others:
        pair = [[mark for group in sorted(groups) for mark in chosen(arm, "open", group)] for arm in (mine, name)]
        if pair[0]:
            gap = difference(*pair)
            found["open_book"][name] = gap | {"within": abs(gap["points"]) <= WITHIN}
    for name, arm in arms.items():
        never = [one for one in arm.values() if one.book == "closed" and one.group == "never"]
        if never:
            low, high = wilson(sum(one.chosen == 0 for one in never), len(never))
            found["never_at_chance"][name] = low <= sum(1 / one.choices for one in never) / len(never) <= high
    return found


def to_json(found: Mapping[str, Any]) -> str:
    """A comparison as text."""
    return json.dumps(found, indent=1, ensure_ascii=False) + "\n"


def to_markdown(found: Mapping[str, Any]) -> str:
    """A table for choices and one for exact answers, and what they come to in lines."""
    parts = [f"## {what.capitalize()}\n\n{_table(found, what)}" for what in _COUNTED]
    asks, lines = found["asks"], []
    for name, kept in asks["memory_share"].items():
        told = "-" if kept is None else f"{kept:.2f}"
        lines.append(f"- Closed book, choices above chance, as a share of those with Engram: {told} {_said(name)}.")
    for name, gap in asks["open_book"].items():
        word = "within" if gap["within"] else "not within"
        lines.append(f"- Open book, Engram less {name}: {_points(gap)} points, {word} {round(100 * WITHIN)}.")
    at = [name for name, is_so in asks["never_at_chance"].items() if is_so]
    off = [name for name, is_so in asks["never_at_chance"].items() if not is_so]
    lines.append(f"- Never shown, closed book: at chance {', '.join(at) or '-'}; not {', '.join(off) or '-'}.")
    return "\n".join([*parts, "\n".join(lines)]) + "\n"


def _said(name: str) -> str:
    return name if name == TWIN else f"with {name}"


def _points(gap: Mapping[str, float]) -> str:
    return f"{100 * gap['points']:+.0f} ({100 * gap['low']:+.0f} to {100 * gap['high']:+.0f})"


def _table(found: Mapping[str, Any], what: str) -> str:
    titles = ["book", "wording", "facts", "shown", "asked", "chance", *found["arms"], "Engram less twin, points"]
    lines = ["| " + " | ".join(titles) + " |", "|" + "---|" * len(titles)]
    for row in (*found["cells"], *(row for row in found["totals"] if row["group"] != "never")):
        shares = [row[what][name] for name in found["arms"]]
        cells = [f"{one['share']:.2f} ({one['low']:.2f}-{one['high']:.2f})" for one in shares]
        shown = "all" if row["exposures"] is None else str(row["exposures"])
        named = [row["book"], row["wording"].replace("_", " "), row["group"], shown, str(shares[0]["asked"])]
        chance = f"{row['chance']:.3f}" if what == "choice" else "0"
        lines.append("| " + " | ".join([*named, chance, *cells, _points(row[f"{what}_difference"])]) + " |")
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> None:
    """Compare, write `twins.json` and `twins.md`, print the page."""
    parser = argparse.ArgumentParser(description="Facts by heart: a model with Engram beside its twin without.")
    parser.add_argument("engram", type=Path, help="facts.json of the model with Engram")
    parser.add_argument("plain", type=Path, help="facts.json of the model without")
    parser.add_argument("--out", type=Path, required=True, help="folder for twins.json and twins.md")
    chosen = parser.parse_args(arguments)
    try:
        found = compare(read(chosen.engram), read(chosen.plain))
    except OctavoError as error:
        sys.exit(str(error))
    write_texts(chosen.out, {"twins.json": to_json(found), "twins.md": to_markdown(found)})
    print(to_markdown(found), end="")


if __name__ == "__main__":
    main()
