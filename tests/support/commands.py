"""Commands run in this process."""

from __future__ import annotations

import pytest

from octavo.cli import main


def refused(line: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line of an error of a command that must fail with 1."""
    assert main(line) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("octavo: error: ")
    assert err.count("\n") == 1
    return err
