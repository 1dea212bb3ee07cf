"""The progress line: silent without a terminal, figures right on one, the rate of this run only."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys

import pytest

from octavo.cli.progress import Meter, Steps, Training

SCRIPT = """
import time
from octavo.cli.progress import Meter
with Meter("reading") as meter:
    for done in (500, 600, 700):
        meter(done, 1000, 2_000_000)
        time.sleep(0.12)
"""


def test_silent_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with Meter("reading") as meter:
        meter(1, 2, 3)
    assert capsys.readouterr() == ("", "")
    assert (meter.done, meter.total) == (1, 2)


def test_rate_counts_this_run_only(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([10.0, 12.0, 12.0, 12.0])
    monkeypatch.setattr("octavo.cli.progress.time.monotonic", lambda: next(clock))
    meter = Meter("reading")
    assert meter.rate == 0.0
    meter.__enter__()
    meter(1000, 2000, 0)
    meter(1500, 2000, 0)
    assert meter.rate == 250.0
    assert meter.figures(1_230_000) == "1,500/2,000 tokens  250/s  2 s left  cache 1.23 MB"


PHASES = """
import time
from octavo.cli.progress import Steps
with Steps() as steps:
    for done in (1, 2):
        steps("fact 8192", "ask", done, 64)
        time.sleep(0.12)
"""


def test_phases_are_silent_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with Steps() as steps:
        steps("fact 8192", "ask", 1, 64)
    assert capsys.readouterr() == ("", "")


TRAINING = """
import time
from octavo.cli.progress import Training
with Training("tiny", 100) as show:
    show({"event": "spike", "step": 3, "why": "loss"})
    for step in (9, 19):
        show({"step": step, "stage": "dense", "loss": 2.5, "tokens_per_s": 1234.5, "mfu": 0.081})
        time.sleep(0.12)
"""


def test_lines_of_a_run_are_printed_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with Training("tiny", 10) as show:
        show({"step": 9, "loss": 2.5})
    assert capsys.readouterr() == ("", '{"step": 9, "loss": 2.5}\n')


@pytest.mark.parametrize(
    ("script", "pattern"),
    [
        (SCRIPT, r"reading.*[67]00/1,000 tokens  [\d,]+/s  \d+ s left  cache 2 MB"),
        (PHASES, r"fact 8192.*ask [12]/64"),
        (TRAINING, r"(?s)\"event\": \"spike\".*tiny.*[12]0/100 dense  loss 2.500  1,23[45] tokens/s  MFU 8.1%"),
    ],
)
def test_drawn_on_a_terminal_and_never_on_stdout(script: str, pattern: str) -> None:
    parent, child = pty.openpty()
    env = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
    with subprocess.Popen([sys.executable, "-c", script], stderr=child, stdout=subprocess.PIPE, env=env) as run:
        os.close(child)
        drawn = b""
        while True:
            try:
                piece = os.read(parent, 65536)
            except OSError:  # Linux reports the closed far end of a terminal as an error
                break
            if not piece:
                break
            drawn += piece
        assert run.stdout is not None
        assert run.stdout.read() == b""
    os.close(parent)
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", drawn.decode())
    assert re.search(pattern, text)
