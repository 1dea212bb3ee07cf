"""Drawings of training runs: a grid of panels with curves and the spread around them, as PNG and SVG.

Covers: one legend for all panels, colours by label, a mark at a step, an axis that is linear near zero and logarithmic
beyond. Does not cover: where the numbers come from; style and files are those of `figures`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from octavo.bench.figures import COLOURS, QUIET, STYLE, WIDTH, load_pyplot, save

_ROW_HEIGHT = 2.5  # inches


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Values `y` at `x`, with the band from `low` to `high` (empty: none); `quiet` ones are grey and dashed. `width`
    is in points: a thin curve over a wide one shows where both are the same."""

    label: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    quiet: bool = False
    width: float = 1.6


@dataclass(frozen=True, kw_only=True)
class Panel:
    """Curves over steps. `mark`: a step with a line through it. `near_zero`: values up to which the axis is linear,
    beyond it is logarithmic on both sides (None: linear everywhere). `places`: every x of the curves is drawn at the
    same distance from the next, with a dot."""

    title: str
    axis: str
    curves: tuple[Curve, ...]
    mark: float | None = None
    near_zero: float | None = None
    places: bool = False


def draw_panels(rows: Sequence[Sequence[Panel]], path: Path, *, title: str, along: str) -> list[Path]:
    """The rows of panels into `path`.png and `path`.svg; a label has the same colour in all of them."""
    plt = load_pyplot()
    labels = list(dict.fromkeys(curve.label for row in rows for panel in row for curve in panel.curves))
    with plt.rc_context(STYLE):
        size = (WIDTH, 0.9 + _ROW_HEIGHT * len(rows))
        figure, grid = plt.subplots(
            len(rows), max(len(row) for row in rows), figsize=size, layout="constrained", squeeze=False
        )
        for row, all_axes in zip(rows, grid, strict=True):
            for panel, axes in zip(row, all_axes, strict=True):
                _draw(axes, panel, labels)
        for axes in grid[-1]:
            axes.set_xlabel(along)
        figure.suptitle(title, x=0.01, ha="left", fontsize=12)
        drawn = [axes.get_legend_handles_labels() for axes in grid.flat]
        lines = {text: line for handles, texts in drawn for line, text in zip(handles, texts, strict=True)}
        style = {"loc": "outside lower center", "ncols": 4, "frameon": False, "fontsize": 10}
        figure.legend([lines[label] for label in labels], labels, **style)
        return save(plt, figure, path)


def _draw(axes, panel: Panel, labels: Sequence[str]) -> None:
    places = sorted({x for curve in panel.curves for x in curve.x})
    for curve in panel.curves:
        colour = QUIET if curve.quiet else COLOURS[labels.index(curve.label) % len(COLOURS)]
        x = [places.index(one) for one in curve.x] if panel.places else curve.x
        style = {"linestyle": "--", "linewidth": 1.2} if curve.quiet else {"linewidth": curve.width}
        axes.plot(x, curve.y, label=curve.label, color=colour, marker="o" if panel.places else None, **style)
        if curve.low:
            axes.fill_between(x, curve.low, curve.high, color=colour, alpha=0.15, linewidth=0)
    if panel.places:
        axes.set_xticks(range(len(places)), [f"{place:g}" for place in places])
    if panel.mark is not None:
        axes.axvline(panel.mark, color=QUIET, linewidth=1, linestyle=":")
    if panel.near_zero is not None:
        axes.set_yscale("symlog", linthresh=panel.near_zero)
        axes.yaxis.set_major_formatter("{x:g}")
    axes.set_title(panel.title, fontsize=11)
    axes.set_ylabel(panel.axis)
    axes.grid(axis="y", alpha=0.3)
