"""Drawings: both forms, the same bytes from the same numbers, labels inside."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from octavo.bench.figures import Bar, context, draw_bars, draw_lines
from octavo.config.errors import UsageError

pytest.importorskip("matplotlib")

BARS = [Bar(label=f"case {n}", value=n / 4, note=f"{n} ms", group="a" if n < 2 else "b") for n in range(4)]
LINES = {"ours": [(8192.0, 50.0), (1024.0, 100.0)], "theirs": [(1024.0, 20.0)]}


def drawn(folder: Path) -> dict[str, bytes]:
    found = draw_bars(BARS, folder / "bars", title="Shares", axis="share", line=1.0)
    found += draw_lines(LINES, folder / "lines", title="Speeds", axis="tokens a second")
    return {path.name: path.read_bytes() for path in found}


def test_png_and_svg_and_the_same_bytes_again(tmp_path: Path) -> None:
    first, second = drawn(tmp_path / "one"), drawn(tmp_path / "two")
    assert sorted(first) == ["bars.png", "bars.svg", "lines.png", "lines.svg"]
    assert first == second
    assert all(data.startswith(b"\x89PNG") for name, data in first.items() if name.endswith("png"))
    for name, words in (("bars.svg", (b"case 3", b"3 ms", b"Shares")), ("lines.svg", (b"theirs", b"8K", b"Speeds"))):
        assert all(word in first[name] for word in words)  # a comment before each text's outlines


@pytest.mark.parametrize(("tokens", "text"), [(1024, "1K"), (2**20, "1M"), (3 * 2**19, "1536K"), (1000, "1,000")])
def test_context(tokens: float, text: str) -> None:
    assert context(tokens) == text


def test_without_matplotlib_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UsageError, match=r"octavo\[bench\]"):
        draw_bars(BARS, tmp_path / "bars", title="", axis="")
