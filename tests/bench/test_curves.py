"""Panels of curves: both forms, the same bytes from the same numbers, labels once, bands and scales inside."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from octavo.bench.curves import Curve, Panel, draw_panels

pytest.importorskip("matplotlib")

STEPS = (0.0, 1.0, 2.0)
OWN = Curve(label="clamp", x=STEPS, y=(3.0, 9.0, 3.0), low=(2.9, 8.0, 2.9), high=(3.1, 9.5, 3.1))
TWIN = Curve(label="twin", x=STEPS, y=(3.0, 2.9, 2.8), quiet=True)
PANEL = Panel(title="one expert grown", axis="loss", curves=(OWN, TWIN), mark=1.0)


def drawn(folder: Path, *panels: Panel) -> dict[str, bytes]:
    found = draw_panels([panels], folder / "runs", title="Loss around a fault", along="steps")
    return {path.suffix: path.read_bytes() for path in found}


def test_png_and_svg_and_the_same_bytes_again(tmp_path: Path) -> None:
    first, second = (drawn(tmp_path / name, PANEL, PANEL) for name in ("one", "two"))
    assert first == second
    assert first[".png"].startswith(b"\x89PNG")
    for words in (b"one expert grown", b"Loss around a fault", b"steps"):
        assert words in first[".svg"]
    assert first[".svg"].count(b"<!-- clamp -->") == 1  # one legend for both panels


def test_bands_marks_and_scales_are_drawn(tmp_path: Path) -> None:
    plain = drawn(tmp_path / "plain", PANEL)[".svg"]
    for name, panel in (
        ("band", replace(PANEL, curves=(replace(OWN, low=(), high=()), TWIN))),
        ("mark", replace(PANEL, mark=None)),
        ("scale", replace(PANEL, near_zero=0.1)),
        ("places", replace(PANEL, places=True)),
    ):
        assert drawn(tmp_path / name, panel)[".svg"] != plain, name


def test_places_are_evenly_apart(tmp_path: Path) -> None:
    far = Curve(label="own", x=(0.0, 1.0, 128.0), y=(1.0, 2.0, 3.0))
    svg = drawn(tmp_path, replace(PANEL, curves=(far,), mark=None, places=True))[".svg"]
    assert all(f"<!-- {text} -->".encode() in svg for text in ("0", "1", "128"))
    assert b"<!-- 64 -->" not in svg
