"""Drawings: both forms, the same bytes from the same numbers, labels inside."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from octavo.bench.figures import Bar, Dot, Line, Point, context, draw_bars, draw_lines, draw_shares
from octavo.config.errors import UsageError

pytest.importorskip("matplotlib")

BARS = [Bar(label=f"case {n}", value=n / 4, note=f"{n} ms", group="a" if n < 2 else "b") for n in range(4)]
LINES = [
    Line(label="ours", group="a", points=(Point(tokens=1024, value=100, note=".50"), Point(tokens=8192, value=50))),
    Line(label="least", group="a", points=(Point(tokens=1024, value=200),), bound=True),
    Line(label="alone", group="b", points=(Point(tokens=1024, value=300),), bound=True),
]
DOTS = [
    Dot(row="experts", share=share, seconds=seconds, by="bytes" if share < 0.9 else "flops")
    for share, seconds in (
        (0.1, 1e-6),
        (0.11, 1e-4),
        (0.111, 1.0),
        (0.112, 1.0),
        (0.113, 1.0),
        (0.114, 1.0),
        (1.2, 1.0),
    )
]


def drawn(folder: Path) -> dict[str, bytes]:
    found = draw_bars(BARS, folder / "bars", title="Shares", axis="share")
    found += draw_lines(LINES, folder / "lines", title="Speeds", axis="tokens a second")
    found += draw_lines(LINES, folder / "logs", title="Speeds", axis="tokens a second", log=True)
    found += draw_shares(DOTS, folder / "dots", title="Kernels", axis="bound / time")
    return {path.name: path.read_bytes() for path in found}


def test_png_and_svg_and_the_same_bytes_again(tmp_path: Path) -> None:
    first, second = drawn(tmp_path / "one"), drawn(tmp_path / "two")
    assert sorted(first) == sorted(
        f"{name}.{kind}" for name in ("bars", "dots", "lines", "logs") for kind in ("png", "svg")
    )
    assert first == second
    assert all(data.startswith(b"\x89PNG") for name, data in first.items() if name.endswith("png"))
    for name, words in (
        ("bars.svg", (b"case 3", b"3 ms", b"Shares")),
        ("lines.svg", (b"ours", b"the bound of each", b"alone", b"8K", b"Speeds", b".50")),
        ("dots.svg", (b"experts", b"Kernels", b"bound by operations", b"20 to 200 us")),
    ):
        assert all(word in first[name] for word in words)  # a comment before each text's outlines
    assert b"least" not in first["lines.svg"]  # the entry of all bounds stands for it
    assert first["lines.svg"] != first["logs.svg"]


@pytest.mark.parametrize(("tokens", "text"), [(1024, "1K"), (2**20, "1M"), (3 * 2**19, "1536K"), (1000, "1,000")])
def test_context(tokens: float, text: str) -> None:
    assert context(tokens) == text


def test_without_matplotlib_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UsageError, match=r"octavo\[bench\]"):
        draw_bars(BARS, tmp_path / "bars", title="", axis="")
