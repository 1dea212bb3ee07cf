"""Records of kernels as lines and tables for people. Covers: a line a case, tables in Markdown. Not here: figures."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from octavo.bench.ratios import NO_RECORD, Records
from octavo.bench.record import BenchError
from octavo.bench.sources import Outcome


def seconds(value: float | None) -> str:
    """Three significant figures with a unit: 4.56 us, 789 us, 1.23 ms, 4.5 s; "-" for None."""
    if value is None:
        return "-"
    for unit, scale in (("us", 1e6), ("ms", 1e3)):
        if value * scale < 999.5:
            return f"{value * scale:.3g} {unit}"
    return f"{value:.3g} s"


def share(value: float | None) -> str:
    """A share of the bound in per cent, "-" for None."""
    return "-" if value is None else f"{value:.0%}"


def peer_ratios(case: dict[str, Any]) -> str:
    """`name 1.8x (1.7-1.9)` for every peer of a timed case; `name failed` for one without times."""
    found = []
    for name, peer in case["peers"].items():
        if "ratio" not in peer:
            found.append(f"{name} failed")
            continue
        times = peer["ratio"]
        found.append(f"{name} {times['median']:.3g}x ({times['low']:.3g}-{times['high']:.3g})")
    return ", ".join(found) or "-"


def line(case: dict[str, Any]) -> str:
    """One case for the terminal, with whatever went wrong."""
    named = f"{case['op']} {case['name']}"
    if case["status"] != "ok":
        why = case.get("message") or f"error {case['error']:.2g} of {case['tolerance']:.2g} allowed"
        return f"{case['status']:>11}  {named}: {why}"
    bound = case["bound"]
    times = ", ".join(f"{kind} {seconds(spread['median'])}" for kind, spread in case["times"].items())
    text = f"{'ok':>11}  {named}: {times}; bound {seconds(bound['seconds'])} ({bound['by'] or bound['message']})"
    text += f", {share(bound['share'])} of it; against {peer_ratios(case)}"
    return text if case["stable"] else f"{text}; warming up did not settle"


def markdown(outcomes: Sequence[Outcome], device: str) -> str:
    """A table of the timed cases of one device, and below it those without a time, each with its reason; every line
    names its record by a letter."""
    timed = [one for one in outcomes if one.timed]
    records = list({one.source.path: one.source for one in outcomes}.values())
    letters = {source.path: letter(number) for number, source in enumerate(records)}
    series = sorted({one.case["series"] for one in timed})
    lines = [
        f"# Kernels on {device}",
        "",
        "Made by `octavo bench report` from the newest record of every case. Times are medians "
        f"({', '.join(series) or 'none'}); share is bound over time; a ratio above 1 means that we are faster, with "
        "its 10-90 % range.",
        "",
        "| operation | case | time | 10-90 % | bound | by | share | against | record |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for one in timed:
        case = one.case
        bound, spread = case["bound"], case["times"][case["series"]]
        lines.append(
            f"| {case['op']} | {case['name']} | {seconds(spread['median'])} | {seconds(spread['low'])} - "
            f"{seconds(spread['high'])} | {seconds(bound['seconds'])} | {bound['by'] or '-'} "
            f"| {share(bound['share'])} | {peer_ratios(case)} | {letters[one.source.path]} |"
        )
    without = [one for one in outcomes if not one.timed]
    if without:
        lines += ["", "Without a time:", ""]
        lines += [
            f"- {one.case['op']} {one.case['name']}: {one.case['status']}, "
            f"{one.case.get('message', 'only checked')} ({letters[one.source.path]})"
            for one in without
        ]
    lines += ["", "Records:", ""]
    lines += [
        f"- {letters[source.path]}: `{source.path.name}`, {source.when:%Y-%m-%d %H:%M}, commit {source.commit}"
        for source in records
    ]
    return "\n".join(lines) + "\n"


def refreshed(page: str, records: Records) -> str:
    """`page` with time, share and what bounds in every row that names a case: `| operation | `case` | .. | .. | .. |`.

    A case whose newest outcome has no time shows that instead; BenchError for one without any record.
    """

    def row(found: re.Match[str]) -> str:
        op, name = found.groups()
        one = records.case(op, name)
        if one == NO_RECORD:
            raise BenchError(f"a row names the case {op} {name}: {one}")
        if isinstance(one, str):
            return f"| {op} | `{name}` | - | - | {one.split(':')[0]} |"
        case = one.case
        time, bound = case["times"][case["series"]]["median"], case["bound"]
        return f"| {op} | `{name}` | {seconds(time)} | {share(bound['share'])} | {bound['by'] or '-'} |"

    return re.sub(r"^\| (\w+) \| `([^`|]+)` \|[^|\n]*\|[^|\n]*\|[^|\n]*\|", row, page, flags=re.MULTILINE)


def letter(number: int) -> str:
    """a, b, .. z, aa, ab, .. for 0, 1, .."""
    first = letter(number // 26 - 1) if number >= 26 else ""
    return first + chr(ord("a") + number % 26)
