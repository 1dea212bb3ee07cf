"""The benchmark of two-level indexes: shares of picks by number and by weight, and a run on the shipped model."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import index_levels
from octavo.kernels.index_topk import Levels, two_level_topk
from octavo.kernels.rows import DenseRows
from octavo.kernels.selection import Picked
from octavo.model import indexer


def test_shares_count_picks_and_weigh_them() -> None:
    exact = torch.tensor([[3, 7, 9, -1], [1, 2, 5, 6]])
    coarse = torch.tensor([[9, 3, 4, -1], [1, 2, 5, 6]])
    scores = torch.zeros(2, 4)
    number, mass = index_levels.shares(exact, coarse, scores)
    assert number == pytest.approx(6 / 7)
    assert mass == pytest.approx((2 / 3 + 1) / 2)
    heavy = scores.index_fill(1, torch.tensor([1]), 50.0)  # the pick that was missed has all the weight
    assert index_levels.shares(exact, coarse, heavy)[1] == pytest.approx(0.5, abs=1e-3)


def narrow_model(folder: Path) -> Path:
    """octavo-xs that looks into 256 entries."""
    shipped = Path(__file__).parents[2] / "weights" / "octavo-xs"
    folder.mkdir()
    for file in shipped.iterdir():
        (folder / file.name).symlink_to(file)
    config = json.loads((shipped / "config.json").read_text())
    (folder / "config.json").unlink()
    (folder / "config.json").write_text(json.dumps(config | {"index_blocks": 256}))
    return folder


@pytest.mark.parametrize(("limit", "after"), [("8K", None), ("2K", 1024)])
def test_a_run_reports_overlap_recall_and_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], limit: str,
    after: int | None,
) -> None:  # fmt: skip
    out = tmp_path / "levels.json"
    narrow = narrow_model(tmp_path / "model")
    line = ["--lengths", "4K", "--count", "4", "--exact-limit", limit, "--out", str(out), "--model", str(narrow)]
    line += [] if after is None else ["--from-tokens", str(after)]
    monkeypatch.setattr(sys, "argv", ["index_levels", *line])
    index_levels.main()
    record = json.loads(out.read_text())
    [run] = record["runs"]
    assert run["index_from_tokens"] == (after or 0), "not where the configuration has two levels begin"
    assert f"`index_from_tokens` = {after or 0}" in record["page"]["lines"][0]
    assert 0.6 < run["overlap"] < 1.0, "256 of 1,024 entries are looked into"
    assert run["overlap"] <= run["mass"] + 0.2
    assert run["compared"] >= index_levels.PLACES
    assert run["two_levels"]["asked"] == 4
    assert run["two_levels"]["read_seconds"] > 0
    overlaps = {(one["block_tokens"], one["blocks"]): one["overlap"] for one in run["others"]}
    assert overlaps[4, 64] < overlaps[4, 128] < run["overlap"] < overlaps[4, 512] <= 1.0
    if limit == "8K":
        assert run["exact"]["asked"] == 4
        assert run["speed_up"] == pytest.approx(run["exact"]["read_seconds"] / run["two_levels"]["read_seconds"])
    else:
        assert run["exact"] is run["speed_up"] is None
    assert "of the picks" in capsys.readouterr().out


@torch.inference_mode()
def test_runs_of_queries_are_chosen_as_they_are_among_all() -> None:
    """The exact choice of a run within a chunk is that of the whole chunk."""
    draw = torch.Generator().manual_seed(1)
    q, w = torch.randn(1, 256, 4, 16, generator=draw), torch.rand(1, 256, 4, generator=draw)
    keys = DenseRows(torch.randn(1, 1088, 16, generator=draw))
    levels = Levels(16, 1)
    whole = indexer.select_topk(q, w, keys, first=4096, ratio=4, k=8)
    with index_levels.compared(levels, 4096, [Levels(16, 512)]) as found:
        indexer.select_topk(q, w, keys, first=4096, ratio=4, k=8, levels=levels)
    assert isinstance(whole, Picked)
    coarse = two_level_topk(q, w, keys, first=4096, ratio=4, k=8, levels=levels)
    kept = [
        index_levels.shares(whole.index[0, at : at + 8], coarse[0, at : at + 8], torch.zeros(8, 8))[0]
        for at in range(0, 256, 16)
    ]
    assert [pair[0] for pair in found.shares[levels]] == pytest.approx(kept)
    assert found.means(Levels(16, 512))["overlap"] == 1.0, "all blocks are looked into"
    assert found.seconds > 0
