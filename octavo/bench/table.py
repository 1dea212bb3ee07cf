"""Records of kernels as lines and tables for people. Covers: one line a case, a Markdown table. Not here: figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


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


def markdown(cases: Sequence[dict[str, Any]], about: dict[str, Any]) -> str:
    """A table of the timed cases, and below it those without a time, each with its reason."""
    series = {case["series"] for case in cases if case["status"] == "ok"}
    where = [about["device"], str(about.get("date") or "undated")]
    where.append(f"commit {str(about.get('commit') or 'unknown')[:12]}")
    lines = [
        f"{', '.join(where)}. Times are medians ({', '.join(sorted(series)) or 'none'}); a ratio above 1 means that we "
        "are faster, with its 10-90 % range.",
        "",
        "| operation | case | time | 10-90 % | bound | by | share | against |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for case in cases:
        if case["status"] == "ok":
            bound, spread = case["bound"], case["times"][case["series"]]
            lines.append(
                f"| {case['op']} | {case['name']} | {seconds(spread['median'])} | {seconds(spread['low'])} - "
                f"{seconds(spread['high'])} | {seconds(bound['seconds'])} | {bound['by'] or '-'} "
                f"| {share(bound['share'])} | {peer_ratios(case)} |"
            )
    without = [case for case in cases if case["status"] not in ("ok", "right")]
    if without:
        lines += ["", "Without a time:", ""]
        lines += [f"- {case['op']} {case['name']}: {case['status']}, {case['message']}" for case in without]
    return "\n".join(lines) + "\n"
