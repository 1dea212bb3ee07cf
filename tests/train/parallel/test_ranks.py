"""Ranks: what a single process gets, sums over gloo ranks, and that four ranks train as one does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from octavo.config.errors import UsageError
from octavo.train.parallel.ranks import Ranks
from tests.support import ranks_run

ROOT = Path(__file__).resolve().parents[3]


def test_one_process_sums_with_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    ranks, device = Ranks.join("cpu")
    assert (ranks.index, ranks.count, ranks.first, device.type) == (0, 1, True, "cpu")
    x = torch.ones(3)
    ranks.add([x])
    assert x.tolist() == [1, 1, 1]
    assert ranks.agreed(True, device)
    assert not ranks.agreed(False, device)
    ranks.leave()


def test_a_rank_without_a_gpu_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UsageError, match="local rank 1 has no GPU: this machine has 1"):
        Ranks.join("cuda")


def test_ranks_train_as_one_process_does(tmp_path: Path) -> None:
    """Five steps of a small recipe, replicas and spread: the same losses, parameters equal on all ranks and close to
    the single run's. The spread run was gone on with in another layout, when nothing was left to do."""
    count = 4
    alone = ranks_run.train_small(tmp_path / "alone")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    subprocess.run(
        [*command, "-m", "tests.support.ranks_run", str(tmp_path / "many")], cwd=ROOT, env=environment, check=True,
        capture_output=True, timeout=300,
    )  # fmt: skip
    folder = tmp_path / "many"
    results = [json.loads((folder / f"rank-{i}.json").read_text()) for i in range(count)]
    assert all(result == results[0] for result in results)
    line = json.loads((folder / "spread" / "log.jsonl").read_text())
    later = json.loads((folder / "later" / "rank-0.json").read_text())
    for found in (results[0], {"steps": line["step"] + 1, "last": line, "sums": later["sums"]}):
        assert found["steps"] == alone["steps"] == later["steps"]
        for name in ("loss", "accuracy", "max_load", "fact"):
            assert found["last"][name] == pytest.approx(alone["last"][name], rel=1e-4, abs=1e-5), name
        for name in ("index", "balance"):  # means over parts of what is not linear in the rows
            assert found["last"][name] == pytest.approx(alone["last"][name], rel=0.05), name
        for name, value in alone["sums"].items():  # orthogonalised updates magnify rounding
            assert found["sums"][name] == pytest.approx(value, rel=0.02, abs=0.01), name
    assert len((folder / "log.jsonl").read_text().splitlines()) == 1
