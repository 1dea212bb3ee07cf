"""The drawings of recorded figures, as PNG and SVG, for a page 800 pixels wide.

Covers: shares of the bound by kernel, speed against context length with its bounds, bytes of cache a token. Needs
matplotlib (the extra `bench`); the same numbers give the same files. Does not cover: where they come from (`report`).
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import ceil, floor, log10
from pathlib import Path
from typing import Any, Literal

from octavo.config.errors import UsageError

# Told apart by eyes that miss a colour (the palette of Okabe and Ito), dark enough for white paper.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#9B4F96", "#56B4E9", "#E69F00", "#404040")
QUIET = "#6b6b6b"
STYLE = {
    "svg.hashsalt": "octavo",  # ids inside the file depend on the drawing alone
    "font.size": 11,
    "axes.titlesize": 12,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "figure.facecolor": "white",  # readable on light pages and on dark ones
    "savefig.dpi": 160,
}
WIDTH = 8.0  # inches
_PALETTE = 64  # colours of a PNG: a third of its bytes, and nothing that eyes miss
_APART = 0.016  # of the axis: dots of a row that are nearer than this are set below each other


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One labelled value, with a note written behind it; `group` chooses its colour."""

    label: str
    value: float
    note: str
    group: str


@dataclass(frozen=True, kw_only=True)
class Point:
    """A value at a context of `tokens`, with a note beside it."""

    tokens: float
    value: float
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Line:
    """Points that belong together; a bound is dashed, and lines of one group have one colour."""

    label: str
    group: str
    points: tuple[Point, ...]
    bound: bool = False


@dataclass(frozen=True, kw_only=True)
class Dot:
    """One case in the row of its kernel: the share it reaches, the seconds it takes, what bounds it."""

    row: str
    share: float
    seconds: float
    by: Literal["flops", "bytes"]


# Seconds below which a dot has the colour, what the legend says, the colour.
_SPANS = (
    (20e-6, "a call below 20 us", "#E69F00"),
    (200e-6, "20 to 200 us", "#56B4E9"),
    (float("inf"), "200 us and more", "#0072B2"),
)
_MARKS = {"bytes": ("o", "bound by bytes"), "flops": ("D", "bound by operations")}


def draw_bars(bars: Sequence[Bar], path: Path, *, title: str, axis: str) -> list[Path]:
    """Horizontal bars from top to bottom into `path`.png and `path`.svg; one of the first group begins a block."""
    plt = load_pyplot()
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(WIDTH, 1.2 + 0.4 * len(bars)), layout="constrained")
        groups = list(dict.fromkeys(bar.group for bar in bars))
        colours = [COLOURS[groups.index(bar.group) % len(COLOURS)] for bar in bars]
        blocks = accumulate(bar.group == groups[0] for bar in bars)
        places = [number + 0.5 * block for number, block in enumerate(blocks)]
        drawn = axes.barh(places, [bar.value for bar in bars], color=colours, height=0.7)
        axes.bar_label(drawn, [bar.note for bar in bars], padding=4, fontsize=10)
        axes.set_yticks(places, [bar.label for bar in bars])
        axes.invert_yaxis()
        axes.set(title=title, xlabel=axis)
        axes.xaxis.set_major_formatter(_thousands)
        axes.set_xlim(right=1.4 * max(bar.value for bar in bars))  # room for the notes
        return save(plt, figure, path)


def draw_lines(lines: Sequence[Line], path: Path, *, title: str, axis: str, log: bool = False) -> list[Path]:
    """Values over contexts in powers of two, bounds dashed, values on a logarithmic axis where `log`; .png and .svg.

    A bound in the group of a line that is no bound has its colour, and one entry for all of those in the legend.
    """
    plt = load_pyplot()
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(WIDTH, 4.6), layout="constrained")
        groups = list(dict.fromkeys(line.group for line in lines))
        measured = {line.group for line in lines if not line.bound}
        for line in lines:
            colour = COLOURS[groups.index(line.group) % len(COLOURS)]
            drawn = {"linestyle": "--", "linewidth": 1.3} if line.bound else {"marker": "o", "linewidth": 2}
            along = [point.tokens for point in line.points], [point.value for point in line.points]
            label = "_" if line.bound and line.group in measured else line.label  # left out of the legend
            axes.plot(*along, label=label, color=colour, **drawn)
            for point in line.points:
                at = (point.tokens, point.value)
                style = {"color": colour, "fontsize": 9, "ha": "center"}
                axes.annotate(point.note, at, xytext=(0, 7), textcoords="offset points", **style)
        tokens = sorted({point.tokens for line in lines for point in line.points})
        axes.set_xscale("log", base=2)
        axes.set_xticks(tokens, [context(place) for place in tokens])
        axes.minorticks_off()
        if log:
            axes.set_yscale("log")
            axes.set_yticks(_steps([point.value for line in lines for point in line.points]))
            axes.minorticks_off()
        else:
            axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter(_thousands)
        axes.set(title=title, xlabel="context, tokens", ylabel=axis)
        axes.grid(axis="y", alpha=0.3)
        if any(line.bound and line.group in measured for line in lines):
            axes.plot([], [], linestyle="--", linewidth=1.3, color=QUIET, label="the bound of each")
        figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=10)
        return save(plt, figure, path)


def _steps(values: Sequence[float]) -> list[float]:
    """1, 2, 5, 10, .. from the last below the least of `values` to the first above the largest."""
    least, most = min(values), max(values)
    first, last = floor(log10(least)), ceil(log10(most))
    every = [step * 10.0**power for power in range(first, last + 1) for step in (1, 2, 5)]
    low, high = max(e for e in every if e <= least), min(e for e in every if e >= most)
    return [e for e in every if low <= e <= high]


def draw_shares(dots: Sequence[Dot], path: Path, *, title: str, axis: str) -> list[Path]:
    """A row for every kernel, a dot for every case: its share of the bound, coloured by how long it takes."""
    plt = load_pyplot()
    with plt.rc_context(STYLE):
        rows = list(dict.fromkeys(dot.row for dot in dots))
        figure, axes = plt.subplots(figsize=(WIDTH, 1.7 + 0.36 * len(rows)), layout="constrained")
        right = max(1.05, 1.05 * max(dot.share for dot in dots))
        for number, row in enumerate(rows):
            mine = sorted((dot for dot in dots if dot.row == row), key=lambda dot: dot.share)
            for dot, below in zip(mine, _levels([dot.share / right for dot in mine]), strict=True):
                colour = next(colour for limit, _, colour in _SPANS if dot.seconds < limit)
                mark = {"marker": _MARKS[dot.by][0], "s": 34, "edgecolor": "white", "linewidth": 0.5}
                axes.scatter(dot.share, number + 0.12 * below, color=colour, zorder=3, **mark)
        axes.axvline(1.0, color=QUIET, linewidth=1, linestyle="--")
        axes.set_yticks(range(len(rows)), rows)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xlim(-0.02 * right, right)
        axes.grid(axis="both", alpha=0.25)
        axes.set(title=title, xlabel=axis)
        keys = [("o", text, colour) for _, text, colour in _SPANS]
        keys += [(mark, text, QUIET) for mark, text in _MARKS.values()]
        shown = [
            plt.Line2D([], [], marker=mark, color=colour, label=text, linestyle="none") for mark, text, colour in keys
        ]
        figure.legend(handles=shown, loc="outside lower center", ncols=3, frameon=False, fontsize=10)
        return save(plt, figure, path)


def _levels(places: Sequence[float]) -> list[int]:
    """0, 1, -1, 2, -2: the first height at which each of the ascending places has room beside those before it."""
    last: dict[int, float] = {}
    found = []
    for place in places:
        free = [level for level in (0, 1, -1, 2, -2) if place - last.get(level, -1.0) >= _APART]
        level = free[0] if free else min(last, key=lambda one: last[one])
        last[level] = place
        found.append(level)
    return found


def context(tokens: float) -> str:
    """Tokens as `octavo plan` reads them: 8K, 1M; plain where they are no multiple of 1,024."""
    for name, size in (("M", 2**20), ("K", 2**10)):
        if tokens >= size and tokens % size == 0:
            return f"{tokens / size:.0f}{name}"
    return f"{tokens:,.0f}"


def _thousands(value: float, _: int | None) -> str:
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:.2g}"


def load_pyplot() -> Any:
    """matplotlib's pyplot, which draws into files; UsageError without matplotlib."""
    try:
        import matplotlib
    except ImportError:
        raise UsageError("figures need matplotlib: install octavo with its extra, as in octavo[bench]") from None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def save(plt: Any, figure: Any, path: Path) -> list[Path]:
    """Write `figure` as `path`.png and `path`.svg and close it."""
    from PIL import Image  # comes with matplotlib

    path.parent.mkdir(parents=True, exist_ok=True)
    found = [path.with_name(f"{path.name}.{kind}") for kind in ("png", "svg")]
    drawn = io.BytesIO()
    try:
        figure.savefig(drawn, format="png")
        figure.savefig(found[1], metadata={"Date": None})
    finally:
        plt.close(figure)
    Image.open(drawn).convert("RGB").quantize(_PALETTE).save(found[0], optimize=True)
    return found
