"""The load benchmark with a tiny model: every part runs, and what must hold does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from benchmarks import service_load
from tests.support.tiny import tiny_config, write_tiny_model


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_every_part_runs_and_nothing_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_load, "LENGTHS", (20, 300, 700, 1300))
    monkeypatch.setattr(service_load, "filler", lambda name: "The keeper wrote the date. " * 700)
    model = write_tiny_model(tmp_path / "tiny", tiny_config(max_position_embeddings=65536), 1)
    out = tmp_path / "load.json"
    service_load.main(
        ["--model", str(model), "--requests", "40", "--streams", "8", "--small", "60", "--tokens", "640",
         "--arriving", "2K", "--document", "2K", "--questions", "3", "--out", str(out)]
    )  # fmt: skip
    record = json.loads(out.read_text())
    crowd, flat = record["crowd"], record["flat"]
    assert crowd["ended"] + crowd["cancelled"] == 40
    assert [crowd[name] for name in ("failed", "lost", "answers_unlike_alone", "pages_left")] == [0, 0, 0, 0]
    assert (flat["ended"], flat["pages_left"]) == (60, 0)
    gaps = record["gaps"]
    assert gaps["answers_unlike"] is False
    assert gaps["beside"]["gaps"] == gaps["alone"]["gaps"] == gaps["beside_over_same_tokens_alone"]["gaps"]
    for told in (gaps["beside"], gaps["alone"]):
        assert told["longest_over_usual"] >= told["p99_over_usual"] >= told["median_over_usual"] > 0
        assert sum(told.get("above_3x_by_cause", {}).values()) <= told["above_3x"]
        for one in told.get("longest_went_to", []):
            assert one["computed"] + one["without_core"] + one["blocked"] == pytest.approx(one["whole"], rel=0.05)
    assert record["drafts"]["draft"] == 0
    assert set(record["streams"]["tokens_per_second"]) == {"1", "8", "32"}
    assert record["document"]["first_token_seconds"]["longest"] > 0
    assert record["about"]["versions"]


def test_drafts_change_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_load, "filler", lambda name: "The keeper wrote the date. " * 700)
    config = tiny_config(max_position_embeddings=65536, num_nextn_predict_layers=1)
    model, out = write_tiny_model(tmp_path / "tiny", config, 1), tmp_path / "load.json"
    service_load.main(
        ["--model", str(model), "--parts", "drafts", "--tokens", "160", "--arriving", "2K", "--document", "2K",
         "--longest", "2K", "--out", str(out)]
    )  # fmt: skip
    drafts = json.loads(out.read_text())["drafts"]
    assert drafts["draft"] > 0
    for count in "18":
        assert drafts[count]["answers_unlike_plain"] == 0
        assert 0 <= drafts[count]["acceptance"] <= 1
