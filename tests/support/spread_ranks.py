"""Ranks of a spread model as threads of the test, each with a team of its own over the loopback."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import torch

from octavo.engine.spread.team import Team

Given = TypeVar("Given")


def on_ranks(count: int, work: Callable[[Team], Given], *, seconds: float = 60.0) -> list[Given]:
    """What `work` gives on every rank, in their order; what one raises is raised."""
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(count) as threads:

        def run(rank: int) -> Given:
            team = Team(Path(folder) / "store", rank, count, device=torch.device("cpu"), seconds=seconds)
            team.open = True
            try:
                with torch.inference_mode():
                    return work(team)
            finally:
                team.close()

        return [future.result() for future in [threads.submit(run, rank) for rank in range(count)]]
