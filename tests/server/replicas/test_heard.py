"""What others print becomes lines of the log."""

from __future__ import annotations

import logging
from contextlib import redirect_stdout

import pytest

from octavo.server.replicas.heard import MAX_LINE, Heard


def test_whole_lines_are_logged_without_colours(caplog: pytest.LogCaptureFixture) -> None:
    heard = Heard()
    with caplog.at_level(logging.WARNING), redirect_stdout(heard):
        print("\x1b[33m(raylet)\x1b[0m A worker", end="")
        assert not caplog.records
        print(" died\n\nand more")
        print("x" * (MAX_LINE * 2))
    assert heard.writable()
    texts = [record.fields["text"] for record in caplog.records]  # type: ignore[attr-defined]
    assert texts == ["(raylet) A worker died", "and more", "x" * MAX_LINE]
