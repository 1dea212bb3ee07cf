"""What the runs' logs say: of each unit, against its twin, and as means over seeds.

Covers: reading logs and probes, recovery, excess over the twin, the summary and its table. Does not cover: figures and
the page (`report`).
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from runs.stabilisers.claims import lines
from runs.stabilisers.units import Unit

SMOOTH, NEAR, LAST = 0.9, 0.02, 20  # of the mean that recovers, how near it must come, steps of the final loss
_NOT_MEANT = ("seed", "fault", "arm", "seconds", "probe", "curve")
_LAYERS = ("gate_clamped", "up_clamped", "gate_size", "up_size", "churn")


def read_log(out: Path, unit: Unit) -> tuple[list[dict[str, Any]], list[dict[str, Any]], int]:
    """Every step's line, the last where it was done again; the events; how many steps were done again."""
    found = [json.loads(line) for line in (out / unit.name / "log.jsonl").read_text().splitlines()]
    own = [line for line in found if "event" not in line]
    steps = {line["step"]: line for line in own}
    return [steps[step] for step in sorted(steps)], [line for line in found if "event" in line], len(own) - len(steps)


def read_probe(out: Path, unit: Unit, at: int) -> dict[str, dict[str, float]]:
    """By steps from the fault what the probe found, lists of layers as their mean and, with `_most`, their largest."""
    path, found = out / unit.name / "probe.jsonl", {}
    for line in lines(path):
        made: dict[str, float] = {}
        for name, value in line.items():
            if isinstance(value, list):
                made |= {name: statistics.mean(value), f"{name}_most": max(value)}
            elif name != "step":
                made[name] = value
        found[str(line["step"] - at)] = {name: float(f"{value:.4g}") for name, value in made.items()}
    return found


def measured(out: Path, unit: Unit, at: int) -> dict[str, Any]:
    """What a unit's log says without its twin."""
    steps, events, again = read_log(out, unit)
    before, after = [s for s in steps if s["step"] < at], [s for s in steps if s["step"] >= at]
    return asdict(unit) | {
        "spikes": sum(e["event"] == "spike" for e in events), "rollbacks": steps[-1]["rollbacks"],
        "steps_again": again, "skipped": steps[-1]["skipped"],
        "steps_to_recover": recovery([s["loss"] for s in steps], at),
        "worst_loss": max(s["loss"] for s in after), "max_load": max(s["max_load"] for s in after),
        "max_load_before": max(s["max_load"] for s in before[-LAST:]),
        **{f"{name}_before": highest(before, name) for name in ("gate_clamped", "up_clamped", "churn")},
        **{name: highest(after, name) for name in _LAYERS}, "probe": read_probe(out, unit, at),
    }  # fmt: skip


def highest(steps: list[dict[str, Any]], name: str) -> float | None:
    """The highest of a number that some lines have for every layer."""
    return max((max(s[name]) for s in steps if name in s), default=None)


def recovery(losses: Sequence[float], at: int) -> int | None:
    """Steps from `at` until the smoothed loss is for the first time as low as before again, and not above it later in
    the fault's wake: 0 if it never rose, None if it never fell."""
    mean, smooth = losses[0], []
    for loss in losses:
        mean = SMOOTH * mean + (1 - SMOOTH) * loss if np.isfinite(loss) else float("inf")
        smooth.append(mean)
    limit = smooth[at - 1] + NEAR
    above = [step for step, value in enumerate(smooth) if step >= at and not value <= limit]
    if not above:
        return 0
    back = [step for step in range(above[0], len(smooth)) if smooth[step] <= limit]
    return back[0] - at if back else None


def against_twin(out: Path, unit: Unit, at: int) -> dict[str, float | None]:
    """Excess loss over the unit's twin, summed over all steps from the fault on, and of the last steps alone; steps
    until the smoothed excess is small (as `recovery`)."""
    own, twin = ([s["loss"] for s in read_log(out, one)[0]] for one in (unit, unit.twin))
    gaps = [a - b for a, b in zip(own, twin, strict=True)]
    return {
        "excess_area": sum(max(0.0, gap) for gap in gaps[at:]), "final_gap": statistics.mean(gaps[-LAST:]),
        "worst_gap": max(gaps[at:]), "steps_to_twin": recovery(gaps, at),
    }  # fmt: skip


def compared(out: Path, at: int) -> list[dict[str, Any]]:
    """The units that are done, those with a fault (or a control) only if their twins are, with the comparison."""
    done, found = done_units(out), []
    for unit, values in done.items():
        if unit == unit.twin:
            found.append(values)
        elif unit.twin in done:
            found.append(values | against_twin(out, unit, at))
    return sorted(found, key=lambda one: (one["seed"], one["fault"], one["arm"]))


def summary(units: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for each fault and arm: means over the seeds."""
    rows: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for values in units:
        rows.setdefault((values["fault"], values["arm"]), []).append(values)
    return [
        {"fault": fault, "arm": arm, "seeds": len(found)}
        | {name: mean([one.get(name) for one in found]) for name in found[0] if name not in _NOT_MEANT}
        | {"never_recovered": sum(one["steps_to_recover"] is None for one in found)}
        for (fault, arm), found in sorted(rows.items())
    ]


def probes(units: list[dict[str, Any]], arm: str) -> list[dict[str, Any]]:
    """A row for each fault and step that a probe was taken at in runs of `arm`: means over seeds; `seeds` of them."""
    rows: dict[tuple[str, int], list[dict[str, float]]] = {}
    for values in units:
        if values["arm"] == arm:
            for after, found in values["probe"].items():
                rows.setdefault((values["fault"], int(after)), []).append(found)
    return [
        {"fault": fault, "after": after, "seeds": len(found)}
        | {name: statistics.mean(one[name] for one in found) for name in found[0]}
        for (fault, after), found in sorted(rows.items())
    ]


def mean(values: Sequence[float | None]) -> float | None:
    """The mean of what is there."""
    there = [value for value in values if value is not None]
    return statistics.mean(there) if there else None


def done_units(out: Path) -> dict[Unit, dict[str, Any]]:
    """What units.jsonl holds."""
    return {Unit(line["seed"], line["fault"], line["arm"]): line for line in lines(out / "units.jsonl")}


COLUMNS = ("spikes", "rollbacks", "excess_area", "steps_to_twin", "final_gap", "gate_clamped", "up_clamped", "max_load",
           "churn")  # fmt: skip
PROBED = ("loss", "loss_old_experts", "loss_old_routers", "loss_clamped", "churn", "router_churn", "load_most",
          "gate_size_most", "peak_most")  # fmt: skip


def table(rows: list[dict[str, Any]], names: Sequence[str], columns: Sequence[str]) -> str:
    """Rows as aligned text: what they are called, then numbers, "-" for None."""
    lines = [" ".join(f"{name:>12}" for name in names) + " " + " ".join(f"{name:>16}" for name in columns)]
    for row in rows:
        numbers = ["-" if row.get(name) is None else f"{row[name]:.4g}" for name in columns]
        called = " ".join(f"{row[name]:>12}" for name in names)
        lines.append(f"{called} " + " ".join(f"{text:>16}" for text in numbers))
    return "\n".join(lines)
