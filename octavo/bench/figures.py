"""The drawings of recorded figures, as PNG and SVG.

Covers: share of the bound by kernel, speed against context length, bytes of cache a token. Needs matplotlib (the extra
`bench`); the same numbers give the same files. Does not cover: where numbers come from (`report`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from octavo.config.errors import UsageError

_COLOURS = ("#1f4e79", "#c55a11", "#548235", "#7f6000", "#7030a0", "#404040")
_STYLE = {
    "svg.hashsalt": "octavo",  # ids inside the file depend on the drawing alone
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.facecolor": "white",
    "savefig.dpi": 160,
}


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One labelled value, with a note written behind it; `group` chooses its colour."""

    label: str
    value: float
    note: str
    group: str


def draw_bars(
    bars: Sequence[Bar], path: Path, *, title: str, axis: str, line: float | None = None
) -> list[Path]:
    """Horizontal bars from top to bottom into `path`.png and `path`.svg; `line` marks a value."""
    plt = _pyplot()
    with plt.rc_context(_STYLE):
        figure, axes = plt.subplots(figsize=(8, 1.2 + 0.32 * len(bars)), layout="constrained")
        groups = list(dict.fromkeys(bar.group for bar in bars))
        colours = [_COLOURS[groups.index(bar.group) % len(_COLOURS)] for bar in bars]
        places = range(len(bars))
        drawn = axes.barh(places, [bar.value for bar in bars], color=colours, height=0.7)
        axes.bar_label(drawn, [bar.note for bar in bars], padding=4, fontsize=8)
        axes.set_yticks(places, [bar.label for bar in bars])
        axes.invert_yaxis()
        axes.set(title=title, xlabel=axis)
        if line is not None:
            axes.axvline(line, color="#808080", linewidth=1, linestyle="--")
        top = max([bar.value for bar in bars] + ([] if line is None else [line]))
        axes.set_xlim(right=1.5 * top)  # room for the notes
        return _save(plt, figure, path)


def draw_lines(
    lines: Mapping[str, Sequence[tuple[float, float]]], path: Path, *, title: str, axis: str
) -> list[Path]:
    """Points (tokens, value) of every label, joined, over a context axis in powers of two; into .png and .svg."""
    plt = _pyplot()
    with plt.rc_context(_STYLE):
        figure, axes = plt.subplots(figsize=(8, 4.2), layout="constrained")
        for number, (label, points) in enumerate(lines.items()):
            ordered = sorted(points)
            axes.plot(
                [tokens for tokens, _ in ordered],
                [value for _, value in ordered],
                label=label,
                marker="o",
                color=_COLOURS[number % len(_COLOURS)],
            )
        tokens = sorted({place for points in lines.values() for place, _ in points})
        axes.set_xscale("log", base=2)
        axes.set_xticks(tokens, [context(place) for place in tokens])
        axes.minorticks_off()
        axes.set_ylim(bottom=0)
        axes.set(title=title, xlabel="context, tokens", ylabel=axis)
        axes.grid(axis="y", alpha=0.3)
        axes.legend(frameon=False)
        return _save(plt, figure, path)


def context(tokens: float) -> str:
    """Tokens as `octavo plan` reads them: 8K, 1M; plain where they are no multiple of 1,024."""
    for name, size in (("M", 2**20), ("K", 2**10)):
        if tokens >= size and tokens % size == 0:
            return f"{tokens / size:.0f}{name}"
    return f"{tokens:,.0f}"


def _pyplot() -> Any:
    try:
        import matplotlib
    except ImportError:
        raise UsageError("figures need matplotlib: install octavo with its extra, as in octavo[bench]") from None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def _save(plt: Any, figure: Any, path: Path) -> list[Path]:
    path.parent.mkdir(parents=True, exist_ok=True)
    found = [path.with_name(f"{path.name}.{kind}") for kind in ("png", "svg")]
    try:
        figure.savefig(found[0], metadata={"Software": None})
        figure.savefig(found[1], metadata={"Date": None})
    finally:
        plt.close(figure)
    return found
