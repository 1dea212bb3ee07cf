"""Figures and tables from recorded results.

Covers: for every record of kernels a table and the shares of its bounds, for records of speed by length one figure of
what they measure, and the bytes of cache a token of the presets. What has no record is named, never made up; a record
that is malformed is an error that names file and field. Does not cover: measuring.

A record of speed holds `model`, `device`, `lengths` (each with `tokens` and `tokens_per_second`) and may say what it
`measures` ("reading" where it does not).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from octavo.bench.figures import Bar, draw_bars, draw_lines
from octavo.bench.record import NUMBER, BenchError, check_kernels, field, read_json
from octavo.bench.table import markdown, seconds, share
from octavo.config.errors import UsageError
from octavo.engine.plan import plan

_CACHES = (("flash", "h100"), ("xs", "cpu2"))  # presets and the machines whose formats they are planned with


@dataclass(frozen=True, kw_only=True)
class Report:
    """What was written, and what could not be drawn for want of a record."""

    written: tuple[Path, ...]
    missing: tuple[str, ...]


def report(results: Path, out: Path) -> Report:
    """Draw what the JSON files of the folder `results` hold into the folder `out`; other files there are left alone."""
    if not results.is_dir():
        raise UsageError(f"results: {str(results)!r} is no folder")
    kernels, speeds = [], []
    for path in sorted(results.glob("*.json")):
        record = read_json(path)
        if record.get("task") == "kernels":
            kernels.append((path, record, check_kernels(path, record)))
        elif "lengths" in record:
            speeds.append((path, record))
    lines = speed_lines(speeds)  # all records are read and checked before anything is written
    written, missing = [], []
    for path, record, cases in kernels:
        written += _kernels(path, record, cases, out, missing)
    if not kernels:
        missing.append(f"no record of kernels in {results}: `octavo bench kernels` makes one")
    for measured, found in lines.items():
        title = f"{measured.capitalize()} speed against context length"
        written += draw_lines(found, out / f"speed-{measured}", title=title, axis="tokens a second")
    if not lines:
        missing.append(f"no record of speed by length in {results}: `python -m benchmarks.read_lengths` makes one")
    for name, hardware in _CACHES:
        bars = cache_bars(name, hardware)
        title = f"Cache for each token of history, shapes of {name}"
        written += draw_bars(bars, out / f"cache-{name}", title=title, axis="bytes a token")
    return Report(written=tuple(written), missing=tuple(missing))


def _kernels(
    path: Path, record: dict[str, Any], cases: list[dict[str, Any]], out: Path, missing: list[str]
) -> list[Path]:
    table = out / f"{path.stem}.md"
    table.parent.mkdir(parents=True, exist_ok=True)
    table.write_text(markdown(cases, record["about"]), encoding="utf-8")
    bars = share_bars(cases)
    if not bars:
        missing.append(f"{path}: no case has a share of its bound")
        return [table]
    title = f"Share of the measured bound, {record['about']['device']}"
    return [table, *draw_bars(bars, out / path.stem, title=title, axis="bound / measured time", line=1.0)]


def share_bars(cases: list[dict[str, Any]]) -> list[Bar]:
    """A bar for every timed case with a bound, operations together, each with its time."""
    timed = [case for case in cases if case["status"] == "ok" and case["bound"]["share"] is not None]
    return [
        Bar(
            label=f"{case['op']} {case['name']}",
            value=case["bound"]["share"],
            note=f"{share(case['bound']['share'])}, {seconds(case['times'][case['series']]['median'])}",
            group=case["op"],
        )
        for case in sorted(timed, key=lambda case: case["op"])
    ]


def speed_lines(
    records: list[tuple[Path, dict[str, Any]]],
) -> dict[str, dict[str, list[tuple[float, float]]]]:
    """By what was measured and by model and device: tokens and tokens a second. BenchError for two records alike."""
    lines: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for path, record in records:
        measured = field(path, record, "measures", kind=str) if "measures" in record else "reading"
        label = f"{field(path, record, 'model', kind=str)}, {field(path, record, 'device', kind=str)}"
        if not field(path, record, "lengths", kind=list):
            raise BenchError(f"{path}: field lengths is empty")
        points = [
            (
                field(path, record, "lengths", number, "tokens", kind=NUMBER),
                field(path, record, "lengths", number, "tokens_per_second", kind=NUMBER),
            )
            for number in range(len(record["lengths"]))
        ]
        if label in lines.setdefault(measured, {}):
            raise BenchError(f"{path}: another record already holds {measured} of {label}")
        lines[measured][label] = points
    return lines


def cache_bars(name: str, hardware: str) -> list[Bar]:
    """Bytes of history a token of the preset `name` in its formats, and of the designs that `plan` compares it with."""
    found = plan(name, "1M", hardware)
    ours = found.history_bytes_per_token
    bars = [Bar(label=f"octavo, {found.main} entries", value=ours, note=f"{ours:,.0f} B", group="ours")]
    for other in found.comparisons:
        times = other.bytes_per_token / ours
        note = f"{other.bytes_per_token:,.0f} B, {times:.1f} times as many"
        bars.append(Bar(label=other.name, value=other.bytes_per_token, note=note, group="others"))
    return bars
