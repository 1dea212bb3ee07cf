"""Claims of units and lines that several processes append."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from runs.stabilisers.claims import Claim, append, lines

HOLD = """
import sys, pathlib
from runs.stabilisers.claims import Claim
claim = Claim(pathlib.Path(sys.argv[1]), "0-rate-none")
print("taken" if claim.taken else "refused", flush=True)
sys.stdin.read()
"""


def test_one_at_a_time_and_free_afterwards(tmp_path: Path) -> None:
    with Claim(tmp_path, "a") as first:
        assert first.taken
        with Claim(tmp_path, "a") as second, Claim(tmp_path, "b") as other:
            assert (second.taken, other.taken) == (False, True)
    with Claim(tmp_path, "a") as third:
        assert third.taken


def test_the_claim_of_a_killed_process_is_free(tmp_path: Path) -> None:
    given = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], **given) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "taken\n"
            with Claim(tmp_path, "0-rate-none") as claim:
                assert not claim.taken
        finally:
            process.kill()
            process.wait()
    with Claim(tmp_path, "0-rate-none") as claim:
        assert claim.taken


def test_no_line_is_lost_or_torn(tmp_path: Path) -> None:
    path = tmp_path / "units.jsonl"
    assert lines(path) == []

    def add(number: int) -> None:
        append(path, {"number": number, "long": "x" * 20_000})
        assert lines(path)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(64)))
    assert sorted(one["number"] for one in lines(path)) == list(range(64))
