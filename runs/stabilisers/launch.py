"""Several processes that run units together.

Covers: starting them, GPUs by turn, one thread each, their output in files, the end at the time limit, failures. Does
not cover: what they do (`work`).
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

GRACE = 10.0  # seconds after the time limit until a process that still runs is ended
_WAIT = 0.2


def launch(args: Sequence[str], *, count: int, gpus: int, out: Path, until: float | None) -> list[str]:
    """Run `python -m runs.stabilisers ARGS --join` `count` times at once, the i-th on GPU i mod `gpus` (0: as it is);
    what went wrong, a line for each process. Output is in `out`/processes."""
    folder = out / "processes"
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "runs.stabilisers", *args, "--join"]
    if until is not None:
        command += ["--until", str(until)]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = visible.split(",") if visible else [str(number) for number in range(gpus)]
    running: list[tuple[subprocess.Popen[bytes], Path]] = []
    try:
        for number in range(count):
            env = os.environ | {"OMP_NUM_THREADS": "1", "TORCHINDUCTOR_COMPILE_THREADS": "1"}
            if gpus:
                env["CUDA_VISIBLE_DEVICES"] = names[number % gpus]
            path = folder / f"{number:02d}.txt"
            with path.open("ab") as file:
                running.append((subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=env), path))
        while any(process.poll() is None for process, _ in running):
            if until is not None and time.time() > until + GRACE:
                break
            time.sleep(_WAIT)
        return [why for process, path in running if (why := _ended(process, path))]
    finally:
        for process, _ in running:
            if process.poll() is None:
                process.kill()
            process.wait()


def _ended(process: subprocess.Popen[bytes], path: Path) -> str | None:
    """Why a process did not end well."""
    code = process.poll()
    if code == 0:
        return None
    what = "ran beyond the time limit and was ended" if code is None else f"ended with exit code {code}"
    last = path.read_text(errors="replace").strip().splitlines()[-1:]
    return f"{path}: {what}: {last[0] if last else 'no output'}"
