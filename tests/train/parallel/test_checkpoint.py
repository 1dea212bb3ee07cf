"""Checkpoints of spread runs: one process reads them bit for bit; damage is named; a failed save keeps the last one."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from octavo.config.errors import CheckpointError
from octavo.train.parallel import checkpoint
from octavo.train.parallel.ranks import Ranks
from tests.support.spread_run import SAVED, STEPS, begin, run
from tests.train.parallel.conftest import Spread

NOTHING = {"recipe": "spread", "parts": {}}


def test_one_process_reads_what_four_ranks_wrote(spread: Spread) -> None:
    assert checkpoint.is_spread(spread.out / "spread")
    assert not checkpoint.is_spread(spread.out / "plain")
    model, optimizer = begin(Ranks())
    assert checkpoint.load(spread.out / "spread", model, optimizer, Ranks(), **NOTHING) == SAVED
    assert optimizer.step_count == SAVED
    saved, found = spread.weights("saved"), checkpoint.whole_weights(model, Ranks())
    assert found.keys() == saved.keys()
    assert all(torch.equal(found[name], value) for name, value in saved.items())
    later = run(model, optimizer, Ranks(), range(SAVED, STEPS))
    for one, wanted in zip(later, spread.alone["steps"][SAVED:], strict=True):
        assert one["loss"] == pytest.approx(wanted["loss"], abs=1e-5)
        assert one["norm"] == pytest.approx(wanted["norm"], abs=1e-4)


def test_one_process_writes_and_reads(tmp_path: Path) -> None:
    model, optimizer = begin(Ranks())
    optimizer.step_count = 7
    checkpoint.save(tmp_path / "a", model, optimizer, Ranks(), step=7, **NOTHING)
    checkpoint.save(tmp_path / "a", model, optimizer, Ranks(), step=8, **NOTHING)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    other, fresh = begin(Ranks())
    with torch.no_grad():
        other.head.weight.add_(1)
    assert checkpoint.load(tmp_path / "a", other, fresh, Ranks(), **NOTHING) == 8
    assert fresh.step_count == 7
    assert torch.equal(other.head.weight, model.head.weight)


def _cut(folder: Path) -> None:
    path = next(folder.glob("*.distcp"))
    path.write_bytes(path.read_bytes()[:-5])


def _lost(folder: Path) -> None:
    next(folder.glob("*.distcp")).unlink()


@pytest.mark.parametrize(
    ("damage", "message"),
    [(_cut, r"\.distcp: checksum differs, the shard is damaged"), (_lost, r"\.distcp: shard is missing")],
)
def test_damage_is_named(spread: Spread, tmp_path: Path, damage: Callable[[Path], None], message: str) -> None:
    shutil.copytree(spread.out / "spread", tmp_path / "spread")
    damage(tmp_path / "spread")
    model, optimizer = begin(Ranks())
    before = model.head.weight.detach().clone()
    with pytest.raises(CheckpointError, match=message):
        checkpoint.load(tmp_path / "spread", model, optimizer, Ranks(), **NOTHING)
    assert torch.equal(model.head.weight, before)


def test_a_checkpoint_that_cannot_be_written_leaves_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, optimizer = begin(Ranks())
    checkpoint.save(tmp_path / "a", model, optimizer, Ranks(), step=1, **NOTHING)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(CheckpointError, match="step 2 cannot be written; the one before is kept: .*No space left"):
        checkpoint.save(tmp_path / "a", model, optimizer, Ranks(), step=2, **NOTHING)
    assert checkpoint.load(tmp_path / "a", model, optimizer, Ranks(), **NOTHING) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
