"""From runs to the record, the figures and the page: numbers by hand, marks, a record alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from octavo.bench.figures import COLOURS
from octavo.config.errors import UsageError
from runs.stabilisers.claims import append
from runs.stabilisers.measures import compared, measured, probes, summary
from runs.stabilisers.report import BEGIN, END, draw, main, page_part, record_of, with_results
from runs.stabilisers.units import Unit

AT, STEPS = 60, 160
LAYERS = {"gate_clamped": [0.0, 0.01], "up_clamped": [0.0, 0.02], "gate_size": [5.0, 9.0], "up_size": [4.0, 8.0]}


def logged(out: Path, unit: Unit, rise: float) -> None:
    """A run whose loss falls by 0.01 a step, and is `rise` higher for ten steps from the fault on."""
    folder = out / unit.name
    folder.mkdir(parents=True)
    made = []
    for step in range(STEPS):
        loss = 5 - 0.01 * step + 0.001 * unit.seed + (rise if AT <= step < AT + 10 else 0.0)
        line = {"step": step, "loss": loss, "max_load": 1.5, "rollbacks": 0, "skipped": 0}
        made.append(line | (LAYERS | {"churn": [0.1, 0.3]} if step % 20 == 0 else {}))
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in made))
    for after in (0, 1):
        found = {"step": AT + after, "loss": 4.0 + rise, "loss_clamped": 4.0, "loss_old_experts": 4.0 + rise / 2,
                 "loss_old_routers": 4.0 + rise, "churn": [0.2, 0.4], "router_churn": [0.1, 0.1], "load": [1.0, 2.0],
                 "peak": [3.0, 6.0], "size": [1.0, 2.0], **LAYERS}  # fmt: skip
        append(folder / "probe.jsonl", found)
    append(out / "units.jsonl", measured(out, unit, AT) | {"seconds": 1.0})


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    for seed in (0, 1):
        for fault, arm, rise in (("nothing", "none", 0.0), ("rate", "none", 1.0 + seed), ("rate", "ahead", 0.5)):
            logged(folder, Unit(seed, fault, arm), rise)
    logged(folder, Unit(0, "nothing", "always"), 0.0)
    logged(folder, Unit(0, "expert", "clamp"), 1.0)  # without its twin: it is left out
    options = {"at": AT, "steps": STEPS, "tokens": 1024, "rows": 256, "hot": 8.0, "grown": 6.0, "same": 2,
               "device": "cpu"}  # fmt: skip
    about = {"date": "2026-11-28T20:00:00+00:00", "device": "CPU of a test", "gpu": None, "options": options}
    (folder / "about.json").write_text(json.dumps(about))
    return folder


def page(folder: Path) -> Path:
    folder.mkdir()
    made = folder / "stabilisers.md"
    made.write_text(f"# Stabilisers\n\n{BEGIN}\nold\n{END}\n\nWords.\n")
    return made


def test_units_are_compared_with_their_twins(out: Path) -> None:
    rows = {(row["fault"], row["arm"]): row for row in summary(compared(out, AT))}
    assert set(rows) == {("nothing", "none"), ("nothing", "always"), ("rate", "none"), ("rate", "ahead")}
    hit = rows["rate", "none"]
    assert hit["seeds"] == 2
    assert hit["excess_area"] == pytest.approx(15.0)
    assert hit["worst_gap"] == pytest.approx(1.5)
    assert hit["final_gap"] == pytest.approx(0.0)
    assert hit["up_clamped"] == pytest.approx(0.02)
    assert rows["nothing", "always"]["excess_area"] == 0.0
    assert rows["rate", "ahead"]["steps_to_twin"] < hit["steps_to_twin"]


def test_probes_are_means_over_seeds_and_layers(out: Path) -> None:
    rows = {(row["fault"], row["after"]): row for row in probes(compared(out, AT), "none")}
    assert rows["rate", 1]["loss"] == pytest.approx(5.5)
    assert rows["rate", 1]["loss_old_experts"] == pytest.approx(4.75)
    assert rows["rate", 0]["churn"] == pytest.approx(0.3)
    assert rows["nothing", 0]["load_most"] == pytest.approx(2.0)


def test_one_command_makes_record_figures_and_page(out: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    written = page(tmp_path / "docs")
    main([str(out), "--docs", str(tmp_path / "docs")])
    path = tmp_path / "docs" / "results" / "stabilisers-2026-11-28.json"
    record: dict[str, Any] = json.loads(path.read_text())
    assert record == record_of(out)
    assert [len(one["curve"]) for one in record["units"]] == [STEPS - AT + 40] * 7
    text = written.read_text()
    assert "| rate | none | 2 | 0 | 0 | 15 (10 to 20) | 0 (0 to 0) | - |" in text
    assert "| rate | ahead | 2 | 0 | 0 | 5 (5 to 5) | 0 (0 to 0) | +0.000, +0.000 |" in text
    assert "| rate | 1 | 5.500 | 4.750 | 5.500 | 4.000 | 30% | 10% | 2 | 9 |" in text
    assert "CPU of a test" in text
    assert text.startswith("# Stabilisers\n")
    assert text.endswith("\nWords.\n")
    assert "old" not in text.split(BEGIN)[1].split(END)[0].split("\n")
    figures = {made.name: made.read_bytes() for made in (tmp_path / "docs" / "figures").iterdir()}
    assert sorted(figures) == [f"stabilisers{more}.{kind}" for more in ("-why", "") for kind in ("png", "svg")]
    assert b"experts chosen before the fault" in figures["stabilisers-why.svg"]
    shutil.rmtree(out)
    main([str(path), "--docs", str(tmp_path / "docs")])
    assert written.read_text() == text
    assert {made.name: made.read_bytes() for made in (tmp_path / "docs" / "figures").iterdir()} == figures


def test_areas_after_the_fault_and_seeds_in_pairs(out: Path) -> None:
    for seed in (0, 1):
        for fault, arm, rise in (("token", "none", 1.0 + seed), ("token", "ahead", 0.5), ("nothing", "again", 0.01)):
            logged(out, Unit(seed, fault, arm), rise)
    text = page_part(record_of(out), "record.json")
    assert "| token | none | 2 | 0 | 0 | 15 (10 to 20) | 12 (8 to 16) | - |" in text  # two of ten steps are the fault's
    assert "| token | ahead | 2 | 0 | 0 | 5 (5 to 5) | 4 (4 to 4) | -4.000, -12.000 |" in text
    assert "| nothing | again | 2 | 0 | 0 | 0.1 (0.1 to 0.1) | 0.1 (0.1 to 0.1) | - |" in text


def test_figures_hold_chance_and_every_seed(out: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    logged(out, Unit(0, "nothing", "again"), 0.01)
    svg = next(made for made in draw(record_of(out), tmp_path) if made.name == "stabilisers.svg").read_text()
    assert "<!-- again, without a fault -->" in svg
    assert "less arm none, same seed" in svg
    ahead = f"stroke: {COLOURS[1].lower()};"  # the second label
    assert svg.count(ahead) == 1 + 2 + 1  # its mean, a line a seed, the legend


def test_the_page_names_gpus_driver_and_commit(out: Path) -> None:
    record = record_of(out)
    gpus = {"device": "cuda", "cpu": "CPU of a test", "gpus": 2, "gpu": {"device": "GPU of a test", "driver": "5.1"}}
    record["about"] |= gpus | {"commit": "0123456789ab", "changed": True}
    record["about"]["options"]["device"] = "cuda"
    part = page_part(record, "record.json")
    assert "2 x GPU of a test (driver 5.1), commit 0123456 with changes, 2026-11-28; 7 runs" in part


def test_a_page_without_marks_is_refused() -> None:
    with pytest.raises(UsageError, match="the page lacks <!-- results -->"):
        with_results("# Stabilisers", "part")


def test_the_page_has_its_marks() -> None:
    text = (Path(__file__).parents[2] / "docs" / "stabilisers.md").read_text()
    assert with_results(text, "part").count("part\n") >= 1
