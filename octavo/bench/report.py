"""Figures and tables from recorded results.

Covers: the page of the headline ratios; for every device a table of the newest outcome of each kernel case and a figure
of the shares of its bounds; speed against context length on CPUs and GPUs; recall by length; bytes of cache a token of
the presets. What has no record is named, never made up; a record that is malformed is an error that names file and
field. Does not cover: measuring, reading files (`sources`), drawing (`figures`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from octavo.bench.figures import Bar, Dot, draw_bars, draw_lines, draw_shares
from octavo.bench.headlines import headlines
from octavo.bench.ratios import Records
from octavo.bench.recall import recall_lines
from octavo.bench.sources import Outcome, read_sources
from octavo.bench.speeds import Speeds, cpu_decoding, cpu_reading, gpu_decoding, gpu_reading
from octavo.bench.table import markdown, refreshed
from octavo.bench.tables import evaluation_page
from octavo.engine.plan import plan

# Figure: presets and the machines whose formats they are planned with.
_CACHES = {"bytes-per-token": (("flash", "h100"), ("pro", "h100")), "bytes-per-token-xs": (("xs", "cpu2"),)}
_NAMES = {"flash": "Flash", "pro": "Pro", "xs": "octavo-xs"}


@dataclass(frozen=True, kw_only=True)
class Report:
    """What was written, and what could not be for want of a record."""

    written: tuple[Path, ...]
    missing: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A figure of speeds that is still to be drawn."""

    name: str
    title: str
    axis: str
    speeds: Speeds
    log: bool = False


def report(results: Path, out: Path) -> Report:
    """Draw what the JSON files of the folder `results` hold into the folder `out`; other files there are left alone.

    Rows that name a case in a page performance.md beside `out` are brought up to date.
    """
    records = Records.of(read_sources(results))  # all is read and checked before anything is written
    page = out.parent / "performance.md"
    fresh = refreshed(page.read_text(encoding="utf-8"), records) if page.is_file() else None
    written, missing = [], []
    pages, without = pages_of(records)
    shares = {device: share_dots(outcomes) for device, outcomes in by_device(records.outcomes).items()}
    drawings, undrawn = drawings_of(records)
    recall, abilities = recall_lines(results), evaluation_page(results)
    if abilities is not None:
        pages["evaluation.md"] = abilities
    if not shares:
        missing.append(f"no record of kernels in {results}: `octavo bench kernels` makes one")
    out.mkdir(parents=True, exist_ok=True)
    for name, text in pages.items():
        (out / name).write_text(text, encoding="utf-8")
        written.append(out / name)
    if fresh is not None:
        page.write_text(fresh, encoding="utf-8")
        written.append(page)
    for device, dots in shares.items():
        if not dots:
            missing.append(f"no case on {device} has a share of its bound")
            continue
        title = f"Share of the measured bound by kernel\n{device}"
        axis = "bound / measured time, a dot a case"
        written += draw_shares(dots, out / f"shares-{slug(device)}", title=title, axis=axis)
    for one in drawings:
        written += draw_lines(one.speeds.lines, out / one.name, title=one.title, axis=one.axis, log=one.log)
    if recall:
        title = "Right answers by length of the document\ndashed: published scores in other, harder tasks"
        written += draw_lines(recall, out / "recall-by-length", title=title, axis="share right, score")
    for name, presets in _CACHES.items():
        bars = [bar for preset, hardware in presets for bar in cache_bars(preset, hardware)]
        title = "Cache for each token of history"
        written += draw_bars(bars, out / name, title=title, axis="bytes a token")
    return Report(written=tuple(written), missing=(*missing, *undrawn, *without))


def pages_of(records: Records) -> tuple[dict[str, str], list[str]]:
    """The pages in Markdown by file name, and a line for each headline that is not measured."""
    page, without = headlines(records)
    pages = {"headlines.md": page}
    for device, outcomes in by_device(records.outcomes).items():
        pages[f"kernels-{slug(device)}.md"] = markdown(outcomes, device)
    return pages, without


def by_device(outcomes: Sequence[Outcome]) -> dict[str, list[Outcome]]:
    """Outcomes by the device they are of."""
    found: dict[str, list[Outcome]] = {}
    for one in outcomes:
        found.setdefault(one.source.device, []).append(one)
    return found


def slug(device: str) -> str:
    """The name of a device as part of a file's name."""
    return re.sub(r"[^a-z0-9]+", "-", device.lower().removeprefix("nvidia ")).strip("-")


def share_dots(outcomes: Sequence[Outcome]) -> list[Dot]:
    """A dot for every timed case with a bound; training has rows of its own."""
    dots = []
    for one in outcomes:
        case = one.case
        if not one.timed or case["bound"]["share"] is None:
            continue
        trains = "train" in case["name"] and case["op"] != "cross_entropy"
        dots.append(
            Dot(
                row=f"{case['op']}, training" if trains else case["op"],
                share=case["bound"]["share"],
                seconds=case["times"][case["series"]]["median"],
                by=case["bound"]["by"],
            )
        )
    return sorted(dots, key=lambda dot: dot.row)


def drawings_of(records: Records) -> tuple[list[Drawing], list[str]]:
    """The figures of speed, and a line for each that has no record."""
    sources = records.sources
    found, missing = [], []
    for gpu, make in (("reading", gpu_reading), ("decoding", gpu_decoding)):
        speeds = make(sources)
        for one in speeds:
            reads = gpu == "reading"
            title = "Reading from nothing" if reads else "A decode step"
            bound = "the BF16 bound" if reads else "the byte bound"
            found.append(
                Drawing(
                    name=f"{gpu}-{slug(one.device)}",
                    title=f"{title}; at the points: the share of {bound}\n{one.where}",
                    axis="tokens a second" if reads else "milliseconds a step",
                    speeds=one,
                    log=not reads,
                )
            )
        if not speeds:
            missing.append(f"no record of {gpu} on a GPU: `python -m benchmarks.gpu_slice` makes one")
    for name, cpu, axis, script in (
        ("reading", cpu_reading, "tokens a second", "read_lengths"),
        ("decoding", cpu_decoding, "milliseconds a token", "long_read"),
    ):
        one = cpu(sources)
        if one is None:
            missing.append(f"no record of {name} by length on a CPU: `python -m benchmarks.{script}` makes one")
            continue
        title = f"{name.capitalize()} on the CPU\n{one.where}"
        found.append(Drawing(name=f"{name}-cpu", title=title, axis=axis, speeds=one, log=True))
    return found, missing


def cache_bars(name: str, hardware: str) -> list[Bar]:
    """Bytes of history a token of the preset `name` in its formats, and of the designs that `plan` compares it with."""
    found = plan(name, "1M", hardware)
    ours = found.history_bytes_per_token
    label = f"{_NAMES[name]}: {found.main.upper()} entries, {found.index.upper()} keys"
    bars = [Bar(label=label, value=ours, note=f"{ours:,.0f} B", group="ours")]
    for other in found.comparisons:
        times = other.bytes_per_token / ours
        note = f"{other.bytes_per_token:,.0f} B, {times:.1f} times"
        bars.append(Bar(label=other.name, value=other.bytes_per_token, note=note, group="others"))
    return bars
