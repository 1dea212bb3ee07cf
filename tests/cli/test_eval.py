"""`octavo eval`: the tasks that there are."""

from __future__ import annotations

import pytest

from octavo.cli import main


def test_unknown_task_is_bad_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "guessing"]) == 2
    said = capsys.readouterr().err
    assert all(task in said for task in ("recall", "anatomy", "facts", "javascript"))
