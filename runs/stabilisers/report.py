"""From finished runs to the record, the figures and the table of the page; or from the record alone.

    python -m runs.stabilisers.report OUT      writes docs/results/stabilisers-DATE.json first
    python -m runs.stabilisers.report docs/results/stabilisers-DATE.json

Covers: what a record holds, its figures, the part of docs/stabilisers.md between its two marks. Does not
cover: words about what was found, which stand outside the marks.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from octavo.bench.curves import Curve, Panel, draw_panels
from octavo.config.errors import UsageError
from runs.stabilisers.measures import compared, probes, read_log, summary
from runs.stabilisers.units import ARMS, CONTROLS, FAULTS, HOT_STEPS, NO_FAULT, Unit

BEFORE = 40  # steps before the fault from which a record has losses
BEGIN, END = "<!-- results -->", "<!-- end of results -->"
_KEPT = ("loss", "loss_clamped", "loss_old_experts", "loss_old_routers", "churn", "router_churn", "load_most",
         "gate_clamped_most", "up_clamped_most", "gate_size_most", "up_size_most", "size_most",
         "peak_most")  # fmt: skip
_TITLES = {"rate": "rate", "expert": "one expert grown", "token": "one token repeated"}
_PROBES = {
    "loss": "as it is", "loss_old_experts": "experts chosen before the fault",
    "loss_old_routers": "routers of before the fault", "loss_clamped": "with the clamp",
}  # fmt: skip


def record_of(out: Path) -> dict[str, Any]:
    """Everything that page and figures need, of the finished units in `out`."""
    about = json.loads((out / "about.json").read_text())
    at = about["options"]["at"]
    units = compared(out, at)
    for values in units:
        losses = [s["loss"] for s in read_log(out, Unit(values["seed"], values["fault"], values["arm"]))[0]]
        values["curve"] = [float(f"{loss:.5g}") for loss in losses[at - min(at, BEFORE) :]]
        values["probe"] = {after: {name: one[name] for name in _KEPT} for after, one in values["probe"].items()}
    return {"task": "stabilisers", "about": about, "at": at, "first": at - min(at, BEFORE), "units": units}


def draw(record: dict[str, Any], figures: Path) -> list[Path]:
    """Both figures: losses around the faults, and the probes' losses."""
    units, made = record["units"], []
    faults = [fault for fault in FAULTS if any(one["fault"] == fault for one in units)]
    rows = [[_excess(record, fault), _paired(record, fault)] for fault in faults]
    if rows:
        title = "Three faults, six arms: what they cost, and what an arm changes"
        made += draw_panels(rows, figures / "stabilisers", title=title, along="step")
    found = [[panel] for fault in faults if (panel := _probe(units, fault)) is not None]
    if found:
        title = "Loss on unseen text above that of the twin, one thing put back at a time (arm none)"
        made += draw_panels(found, figures / "stabilisers-why", title=title, along="steps after the fault")
    return made


def _excess(record: dict[str, Any], fault: str) -> Panel:
    """Means over seeds, later arms thinner so that those below them are seen."""
    curves = [
        _curve(record, arm, [statistics.mean(one) for one in zip(*runs.values(), strict=True)], width=4.5 - 0.7 * i)
        for i, arm in enumerate(ARMS)
        if (runs := _gaps(record, fault, arm))
    ]
    if chance := _gaps(record, NO_FAULT, "again"):
        values = [statistics.mean(one) for one in zip(*chance.values(), strict=True)]
        curves.append(_curve(record, "again, without a fault", values, quiet=True))
    return Panel(
        title=f"{_TITLES[fault]}: mean over seeds", axis="loss less twin's", curves=tuple(curves), mark=record["at"],
        near_zero=0.1 if fault == "token" else None,
    )  # fmt: skip


def _paired(record: dict[str, Any], fault: str) -> Panel:
    """What each arm has cost so far beyond `none` of the same seed, a line a seed; without batches that are no text."""
    begin = record["at"] - record["first"] + (record["about"]["options"]["same"] if fault == "token" else 0)
    usual, curves = _gaps(record, fault, "none"), []
    for i, arm in enumerate(ARMS):
        for seed, own in _gaps(record, fault, arm).items():
            if arm != "none" and seed in usual:
                apart = [a - b for a, b in zip(own[begin:], usual[seed][begin:], strict=True)]
                sums = [0.0] * begin + list(accumulate(apart))
                curves.append(_curve(record, arm, sums, width=2.7 - 0.4 * i))
    return Panel(
        title="less arm none, same seed: sum so far", axis="sum of losses", curves=tuple(curves), mark=record["at"]
    )


def _gaps(record: dict[str, Any], fault: str, arm: str) -> dict[int, list[float]]:
    """By seed the losses of an arm less those of its twin."""
    units = {(one["seed"], one["fault"], one["arm"]): one["curve"] for one in record["units"]}
    twin = Unit(0, fault, arm).twin.arm
    return {
        seed: [a - b for a, b in zip(own, units[seed, NO_FAULT, twin], strict=True)]
        for (seed, *rest), own in units.items()
        if rest == [fault, arm] and (seed, NO_FAULT, twin) in units
    }


def _curve(
    record: dict[str, Any], label: str, values: Sequence[float], *, width: float = 1.6, quiet: bool = False
) -> Curve:
    x = tuple(float(record["first"] + i) for i in range(len(values)))
    return Curve(label=label, x=x, y=tuple(values), quiet=quiet, width=width)


def _probe(units: list[dict[str, Any]], fault: str) -> Panel | None:
    """What the loss of arm `none` would have been at each probe."""
    rows = probes(units, "none")
    usual = {row["after"]: row["loss"] for row in rows if row["fault"] == NO_FAULT}
    own = [row for row in rows if row["fault"] == fault and row["after"] in usual]
    if not own:
        return None
    curves = [
        Curve(
            label=label, x=tuple(float(row["after"]) for row in own),
            y=tuple(row[name] - usual[row["after"]] for row in own), width=4 - i,
        )
        for i, (name, label) in enumerate(_PROBES.items())
    ]  # fmt: skip
    return Panel(title=_TITLES[fault], axis="loss less twin's", curves=tuple(curves), places=True)


def page_part(record: dict[str, Any], name: str) -> str:
    """The part of the page between the marks."""
    units, about = record["units"], record["about"]
    options, seeds = about["options"], len({one["seed"] for one in units})
    lines = [
        f"Record: [{name}](results/{name}); {_where(about)}, {about['date'][:10]}; {len(units)} runs, {seeds} seeds; "
        f"{options['steps']} steps of {options['tokens']:,} tokens in rows of {options['rows']:,}, faults at step "
        f"{record['at']}: rate x {options['hot']:g} for 20 steps, one expert x {options['grown']:g}, {options['same']} "
        "batches of one token. Means over seeds, lowest to highest in brackets.", "",
        "![Losses by fault and arm](figures/stabilisers.png)", "",
        "| fault | arm | runs | spikes | rollbacks | excess area | of it after the fault | less `none`'s, by seed "
        "| steps to twin | final gap |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    rows = _in_order(summary(units))
    for row in rows:
        runs = [one for one in units if (one["fault"], one["arm"]) == (row["fault"], row["arm"])]
        if "excess_area" in row:
            late = _late(record, row["fault"], row["arm"])
            cells = [_spread([one["excess_area"] for one in runs]), _spread(list(late.values()))]
            itself = row["fault"] == NO_FAULT or row["arm"] == "none"
            cells += ["-" if itself else _apart(late, _late(record, row["fault"], "none"))]
            cells += [_spread([one[key] for one in runs]) for key in ("steps_to_twin", "final_gap")]
            lines.append(
                f"| {row['fault']} | {row['arm']} | {row['seeds']} | {row['spikes']:.3g} | {row['rollbacks']:.3g} "
                f"| {' | '.join(cells)} |"
            )
    lines += [
        "", "What was looked at, highest over layers and steps from the fault on (before it in brackets); at the "
        "fault's step of `token` that is the batch of one token:", "",
        "| fault | arm | gate above 10 | up beyond 10 | gate size | up size | largest load | churn in 16 steps |",
        "|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for row in rows:
        cells = [
            _percent(row["gate_clamped"], row["gate_clamped_before"]),
            _percent(row["up_clamped"], row["up_clamped_before"]), _short(row["gate_size"]), _short(row["up_size"]),
            f"{_short(row['max_load'])} ({_short(row['max_load_before'])})",
            _percent(row["churn"], None),
        ]  # fmt: skip
        lines.append(f"| {row['fault']} | {row['arm']} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", *_probe_lines(units)])


def _probe_lines(units: list[dict[str, Any]]) -> list[str]:
    """The table of probes of arm `none`."""
    lines = [
        "![What the loss would have been](figures/stabilisers-why.png)", "",
        "The same unseen text in the runs of arm `none`:", "",
        "| fault | steps after | loss | experts of before | routers of before | clamp | churn | by the router alone "
        "| load | gate size |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for row in _in_order(probes(units, "none")):
        losses = " | ".join(f"{row[name]:.3f}" for name in ("loss", "loss_old_experts", "loss_old_routers",
                                                            "loss_clamped"))  # fmt: skip
        lines.append(
            f"| {row['fault']} | {row['after']} | {losses} | {row['churn']:.0%} | {row['router_churn']:.0%} "
            f"| {_short(row['load_most'])} | {_short(row['gate_size_most'])} |"
        )
    return lines


def _in_order(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    faults, arms = [NO_FAULT, *FAULTS], [*ARMS, *CONTROLS]
    return sorted(rows, key=lambda row: (faults.index(row["fault"]), arms.index(row.get("arm", "none"))))


def _where(about: dict[str, Any]) -> str:
    """What the runs ran on, and of which commit."""
    device, gpu = about["device"], about.get("gpu") or {}
    if about["options"]["device"] == "cuda":
        device = f"{about.get('gpus', 1)} x {gpu.get('device')} (driver {gpu.get('driver')})"
    commit = f", commit {about['commit'][:7]}" if about.get("commit") else ""
    return f"{device}{commit}{' with changes' if about.get('changed') else ''}"


def _late(record: dict[str, Any], fault: str, arm: str) -> dict[int, float]:
    """By seed the excess area of the steps after the last one that the fault changes."""
    over = {"rate": HOT_STEPS, "token": record["about"]["options"]["same"]}.get(fault, 0)
    begin = record["at"] - record["first"] + over
    return {seed: sum(max(0.0, one) for one in gaps[begin:]) for seed, gaps in _gaps(record, fault, arm).items()}


def _apart(own: dict[int, float], usual: dict[int, float]) -> str:
    """Differences of the seeds that both have."""
    return ", ".join(f"{own[seed] - usual[seed]:+.3f}" for seed in sorted(own) if seed in usual) or "-"


def _spread(values: list[float | None]) -> str:
    """Mean and range of numbers; how many there are not."""
    there = [value for value in values if value is not None]
    if not there:
        return "never"
    text = f"{_short(statistics.mean(there))} ({_short(min(there))} to {_short(max(there))})"
    return text if len(there) == len(values) else f"{text}; {len(values) - len(there)} never"


def _percent(value: float | None, before: float | None) -> str:
    own = "-" if value is None else f"{100 * value:.3g}%"
    return own if before is None else f"{own} ({100 * before:.3g}%)"


def _short(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def with_results(page: str, part: str) -> str:
    """`page` with `part` between its marks; UsageError without them."""
    head, mark, rest = page.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not mark or not end:
        raise UsageError(f"the page lacks {BEGIN} or {END}")
    return f"{head}{BEGIN}\n{part}\n{END}{tail}"


def main(args: list[str] | None = None) -> None:
    """Write record (from a folder), figures and the page's part."""
    parser = argparse.ArgumentParser(prog="python -m runs.stabilisers.report", description="Record, figures, page.")
    parser.add_argument("source", type=Path, help="folder of finished runs, or a record made of one")
    parser.add_argument("--docs", type=Path, default=Path("docs"), help="folder of stabilisers.md")
    options = parser.parse_args(args)
    path = options.source
    if path.is_dir():
        record = record_of(path)
        path = options.docs / "results" / f"stabilisers-{record['about']['date'][:10]}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(record, separators=(",", ":")) + "\n")
        print(path)
    record = json.loads(path.read_text())
    page = options.docs / "stabilisers.md"
    text = with_results(page.read_text(), page_part(record, path.name))
    for made in draw(record, options.docs / "figures"):
        print(made)
    page.write_text(text)
    print(page)


if __name__ == "__main__":
    main()
