"""One run of `tests.support.spread_run` for all tests, and a process group of one rank."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch.distributed as dist
from safetensors.torch import load_file
from torch import Tensor

from tests.support import spread_run

_PATIENCE = 600


@dataclass(frozen=True)
class Spread:
    """What the runs left: `alone` of one process, and what each rank of each layout wrote."""

    out: Path
    alone: dict[str, Any]

    def said(self, name: str) -> list[dict[str, Any]]:
        """By rank."""
        ranks = range(spread_run.Layout.parse(name).ranks)
        return [json.loads((self.out / f"{name}-{rank}.json").read_text()) for rank in ranks]

    def weights(self, name: str) -> dict[str, Tensor]:
        """Weights that were kept."""
        return load_file(self.out / f"{name}.safetensors")


@pytest.fixture(scope="session")
def spread(tmp_path_factory: pytest.TempPathFactory) -> Spread:
    """The first worker that asks runs them; others wait for what it finds."""
    base = tmp_path_factory.getbasetemp()
    out = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "spread"
    done = out / "alone.json"
    try:
        out.mkdir()
    except FileExistsError:
        end = time.monotonic() + _PATIENCE
        while not done.exists():
            assert time.monotonic() < end, "the worker that runs the layouts does not finish"
            time.sleep(0.2)
    else:
        found: dict[str, Any] = {}
        try:
            found = spread_run.alone(out)
            spread_run.start(out)
        finally:
            part = out / "alone.part"
            part.write_text(json.dumps(found))
            part.rename(done)
    alone = json.loads(done.read_text())
    assert alone, "the runs failed in another worker"
    return Spread(out, alone)


@pytest.fixture
def one_rank(tmp_path: Path) -> Iterator[dist.ProcessGroup]:
    """The group of a single process."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    group = dist.group.WORLD
    assert group is not None
    yield group
    dist.destroy_process_group()
