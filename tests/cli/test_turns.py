"""Lines of standard input as turns of the user."""

from __future__ import annotations

import io
import sys

import pytest

from octavo.cli.turns import turns


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_blank_lines_are_no_turns(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n  one \n\n \t\ntwo"))
    assert list(turns()) == ["one", "two"]
    assert capsys.readouterr() == ("", "")


def test_a_terminal_gets_a_mark_for_each_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", _Terminal("one\n\n"))
    assert list(turns()) == ["one"]
    assert capsys.readouterr() == ("", "> > > ")
