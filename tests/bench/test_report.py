"""Figures and tables from recorded files: what is drawn, what is missing, and that those in docs/figures are fresh."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from octavo.bench.ratios import Records
from octavo.bench.record import BenchError
from octavo.bench.report import cache_bars, pages_of, report, share_dots, slug
from octavo.bench.sources import newest, read_sources
from octavo.bench.table import refreshed
from octavo.config.errors import UsageError
from octavo.engine.plan import plan
from tests.bench.toys import by_length, outcome, put, record, sliced, sources

ROOT = Path(__file__).resolve().parents[2]
RESULTS, FIGURES = ROOT / "docs" / "results", ROOT / "docs" / "figures"
ROW = {"tokens": 1024, "tokens_per_second": 9.5, "decode_seconds": 0.5, "decode_bound_share": 0.5}


def both(*stems: str) -> set[str]:
    return {f"{stem}.{kind}" for stem in stems for kind in ("png", "svg")}


def test_every_record_is_drawn_and_others_are_left_alone(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    put(tmp_path, a=record(outcome()), b=by_length(ROW), c=sliced(), other={"cells": []})
    found = report(tmp_path, tmp_path / "figures")
    figures = both(
        "shares-made-up",
        "reading-h9",
        "decoding-h9",
        "reading-cpu",
        "decoding-cpu",
        "bytes-per-token",
        "bytes-per-token-xs",
    )
    assert {path.name for path in found.written} == {"headlines.md", "kernels-made-up.md", *figures}
    assert all(path.stat().st_size > 0 for path in found.written)
    assert all(line.startswith("headline ") for line in found.missing)


def test_what_has_no_record_is_named(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    found = report(put(tmp_path, checks=record(outcome(status="right"))), tmp_path / "figures")
    assert found.missing[0] == "no case on made up has a share of its bound"
    empty = tmp_path / "empty"
    empty.mkdir()
    missing = report(empty, tmp_path / "figures").missing
    assert "no record of kernels" in missing[0]
    assert [line.split(":")[0] for line in missing[1:5]] == [
        "no record of reading on a GPU", "no record of decoding on a GPU", "no record of reading by length on a CPU",
        "no record of decoding by length on a CPU",
    ]  # fmt: skip


def test_a_malformed_record_writes_nothing(tmp_path: Path) -> None:
    put(tmp_path, a=record(outcome()), bad=by_length({"tokens": 8}))
    with pytest.raises(BenchError, match=r"bad.json: field lengths.0.tokens_per_second is missing"):
        report(tmp_path, tmp_path / "figures")
    assert not (tmp_path / "figures").exists()


def test_a_folder_that_is_not_there_is_bad_usage(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no folder"):
        report(tmp_path / "nowhere", tmp_path)


def test_shares_are_those_of_timed_cases_and_training_is_apart(tmp_path: Path) -> None:
    none = {"seconds": None, "share": None, "by": None, "message": "no rate"}
    cases: list[dict[str, Any]] = [
        outcome(op="z"), outcome("w", status="wrong", message=""), outcome("n", bound=none),
        outcome("training", op="a"),
    ]  # fmt: skip
    dots = share_dots(newest(sources(tmp_path, a=record(*cases))))
    assert [(dot.row, dot.share, dot.seconds, dot.by) for dot in dots] == [
        ("a, training", 0.5, 2.0, "bytes"), ("z", 0.5, 2.0, "bytes"),
    ]  # fmt: skip


def test_names_of_files() -> None:
    assert [slug(device) for device in ("NVIDIA H100 80GB HBM3", "CPU AMD EPYC")] == ["h100-80gb-hbm3", "cpu-amd-epyc"]


def test_bytes_of_cache_are_those_of_the_plan() -> None:
    ours, *others = cache_bars("flash", "h100")
    planned = plan("flash", "1M", "h100")
    assert ours.value == planned.history_bytes_per_token
    assert ours.label == "Flash: FP8 entries, FP4 keys"
    assert [(bar.label, bar.value) for bar in others] == [
        (other.name, other.bytes_per_token) for other in planned.comparisons
    ]
    assert others[0].note == "48,068 B, 13.7 times"


def test_the_repository_s_own_figures_are_there_and_small(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    found = report(RESULTS, tmp_path)
    assert [line for line in found.missing if not line.startswith("headline ")] == []
    others = {path.name for path in FIGURES.glob("stabilisers*")}  # by runs.stabilisers.report, and tested there
    assert {path.name for path in FIGURES.iterdir()} - others == {path.name for path in found.written}
    assert {path.name: path.stat().st_size for path in FIGURES.glob("*.png") if path.stat().st_size > 100_000} == {}


def test_the_repository_s_own_pages_are_fresh() -> None:
    pages, _ = pages_of(Records.of(read_sources(RESULTS)))
    stale = {name for name, text in pages.items() if (FIGURES / name).read_text(encoding="utf-8") != text}
    assert stale == set(), "run `octavo bench report`"


def test_the_page_on_performance_is_fresh() -> None:
    page = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    assert len(re.findall(r"^\| \w+ \| `", page, re.MULTILINE)) >= 20
    assert refreshed(page, Records.of(read_sources(RESULTS))) == page, "run `octavo bench report`"


def test_a_page_beside_the_figures_is_brought_up_to_date(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    page = tmp_path / "performance.md"
    page.write_text("Text.\n| double | `one` | 9 s | 1% | - | why |\n", encoding="utf-8")
    assert page in report(put(tmp_path, a=record(outcome())), tmp_path / "figures").written
    assert page.read_text(encoding="utf-8") == "Text.\n| double | `one` | 2 s | 50% | bytes | why |\n"
