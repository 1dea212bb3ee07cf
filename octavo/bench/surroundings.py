"""Where and when a measurement was made.

Covers: date, commit, processor, load, versions; a GPU's name, driver, clocks, power and temperature. Not here:
measuring.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from octavo.version import __version__

ROOT = Path(__file__).resolve().parents[2]  # the checkout, where there is one
RESULTS = ROOT / "docs" / "results"
COMMIT = "OCTAVO_COMMIT"
_GPU_FIELDS = {
    "name": "device",
    "driver_version": "driver",
    "memory.total": "memory_mib",
    "clocks.sm": "sm_mhz",
    "clocks.mem": "memory_mhz",
    "power.draw": "watts",
    "temperature.gpu": "celsius",
    "clocks_event_reasons.active": "clock_limits",
}
_NUMBERS = ("memory_mib", "sm_mhz", "memory_mhz", "watts", "celsius")


def surroundings(packages: Iterable[str] = ("torch", "octavo")) -> dict[str, Any]:
    """Date, commit, device and versions of this run; a package that is not installed has the version null."""
    cpu = platform.processor()
    if Path("/proc/cpuinfo").exists():
        names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
        cpu = names[0].split(":", 1)[1].strip() if names else cpu
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        **commit(),
        "device": f"CPU {cpu}",
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_before": os.getloadavg()[0],
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in packages},
    }


def _version(package: str) -> str | None:
    if package == "octavo":  # also where the package is run from its folder
        return __version__
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def commit(folder: Path = ROOT) -> dict[str, Any]:
    """`commit` of the checkout in `folder`, and whether its Python files are `changed` since.

    A copy without git is told its commit by the variable OCTAVO_COMMIT; whether it was changed is then unknown (null).
    """

    def git(*line: str) -> str | None:
        if shutil.which("git") is None:
            return None
        run = subprocess.run(["git", *line], cwd=folder, capture_output=True, text=True, check=False)
        return None if run.returncode else run.stdout.strip()

    if git("ls-files", "--error-unmatch", "octavo/version.py") is None:  # another project's checkout around a package
        return {"commit": os.environ.get(COMMIT) or None, "changed": None}
    changed = git("status", "--porcelain", "--", "*.py")
    return {"commit": git("rev-parse", "HEAD"), "changed": None if changed is None else bool(changed)}


def gpu(index: int = 0) -> dict[str, Any] | None:
    """The state of GPU `index` now, as nvidia-smi tells it; None without that program. Unknown fields are null."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    line = [program, f"--query-gpu={','.join(_GPU_FIELDS)}", "--format=csv,noheader,nounits", f"--id={index}"]
    run = subprocess.run(line, capture_output=True, text=True, check=False, timeout=30)
    values = [part.strip() for part in run.stdout.strip().splitlines()[0].split(",")] if run.stdout.strip() else []
    if run.returncode or len(values) != len(_GPU_FIELDS):
        return {"message": " ".join((run.stderr or run.stdout).split())[:200]}
    found = dict(zip(_GPU_FIELDS.values(), values, strict=True))
    return {name: _number(value) if name in _NUMBERS else value for name, value in found.items()}


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
