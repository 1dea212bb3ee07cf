"""Lines of speed by context: labels, newer points over older ones, bounds, and what is malformed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from octavo.bench.figures import Line
from octavo.bench.record import BenchError
from octavo.bench.speeds import cpu_decoding, cpu_reading, gpu_decoding, gpu_reading
from tests.bench.toys import by_length, sliced, sources

LATE = "2026-11-27T00:00:00+00:00"
EXACT = "xs, exact index, 8086 AVX2"


def row(tokens: int, speed: float, **more: Any) -> dict[str, Any]:
    return {"tokens": tokens, "tokens_per_second": speed, "seconds": tokens / speed} | more


def values(lines: tuple[Line, ...]) -> dict[str, list[tuple[float, float, str]]]:
    return {line.label: [(point.tokens, point.value, point.note) for point in line.points] for line in lines}


def test_reading_on_the_cpu_takes_the_newest_point_of_each_length(tmp_path: Path) -> None:
    old = by_length(row(2048, 5.0), row(1024, 9.0))
    new = by_length(row(1024, 8.0), row(1024, 4.0, index_levels=2), date=LATE)
    found = cpu_reading(sources(tmp_path, a=new, b=old))
    assert found is not None
    assert values(found.lines) == {
        EXACT: [(1024, 8.0, ""), (2048, 5.0, "")], "xs, index of two levels, 8086 AVX2": [(1024, 4.0, "")],
    }  # fmt: skip
    assert found.where == "8086, 2 cores"


def test_decoding_is_drawn_of_the_machine_measured_last(tmp_path: Path) -> None:
    step = {"decode_seconds": 0.004, "decode_bound_share": 0.25}
    old = by_length(row(1024, 8.0, **step), device="CPU Z80 @ 4 MHz")
    alone = by_length(date=LATE, decoding=[{"tokens": 4096, "index_levels": 2} | step])
    del alone["lengths"]
    found = cpu_decoding(sources(tmp_path, a=old, b=alone))
    assert found is not None
    assert found.where == "8086, 2 cores"
    assert {line.label for line in found.lines if not line.bound} == {"xs, index of two levels, 8086 AVX2"}
    reading = cpu_reading(sources(tmp_path, a=old, b=alone))
    assert reading is not None
    assert [line.label for line in reading.lines] == ["xs, exact index, Z80 AVX2"]


def test_decoding_on_the_cpu_has_its_bound_in_the_same_group(tmp_path: Path) -> None:
    given = by_length(row(1024, 8.0), row(2048, 8.0, decode_seconds=0.004, decode_bound_share=0.25))
    found = cpu_decoding(sources(tmp_path, a=given))
    assert found is not None
    assert values(found.lines) == {EXACT: [(2048, 4.0, "")], f"{EXACT}: bound": [(2048, 1.0, "")]}
    assert [(line.group, line.bound) for line in found.lines] == [(EXACT, False), (EXACT, True)]


def test_without_a_record_there_is_no_figure(tmp_path: Path) -> None:
    found = sources(tmp_path, a=by_length(row(1024, 8.0)))
    assert cpu_decoding(found) is None
    assert cpu_reading([]) is None
    assert gpu_reading(found) == gpu_decoding(found) == []


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (by_length(), "field lengths is empty"),
        (by_length({"tokens": 8}), "field lengths.0.tokens_per_second is missing"),
        (by_length({"tokens": "8", "tokens_per_second": 1}), "field lengths.0.tokens is '8'"),
        (by_length(row(8, 1.0, index_levels=3)), "field lengths.0.index_levels is 3; it must be 1 or 2"),
        (by_length(row(8, 1.0), model=None), "field model is None"),
    ],
)
def test_a_malformed_record_names_file_and_field(content: Any, fault: str, tmp_path: Path) -> None:
    with pytest.raises(BenchError) as caught:
        cpu_reading(sources(tmp_path, bad=content))
    assert f"bad.json: {fault}" in str(caught.value)


def test_reading_on_a_gpu_beside_both_bounds(tmp_path: Path) -> None:
    [found] = gpu_reading(sources(tmp_path, a=sliced()))
    assert (found.where, found.device) == ("6 layers of width 4,096, NVIDIA H9", "NVIDIA H9")
    ours, bf16, fp8 = found.lines
    assert [(point.tokens, point.note) for point in ours.points] == [(8192, "0.50"), (2**20, "0.50")]
    assert [line.points[0].value for line in (ours, bf16, fp8)] == pytest.approx([1e4, 2e4, 4e4])
    assert [line.bound for line in found.lines] == [False, True, True]


def test_steps_on_a_gpu_are_joined_over_records_of_one_shape(tmp_path: Path) -> None:
    def steps(batch: int, median: float) -> list[dict[str, Any]]:
        return [step | {"batch": batch, "seconds": {"median": median}} for step in sliced()["decode"][:1]]

    small = sliced(config=sliced()["config"] | {"hidden_size": 8}, decode=steps(2, 9.0), date="2026-11-01")
    newer = sliced(decode=[*steps(64, 0.01), *steps(1, 0.004)], date=LATE)
    del newer["prefill"]
    [found] = gpu_decoding(sources(tmp_path, a=newer, b=sliced(), c=small))
    assert [line.label for line in found.lines] == ["batch 1", "batch 1: bound", "batch 64", "batch 64: bound"]
    one = found.lines[0]
    assert [(point.tokens, point.value) for point in one.points] == [
        (4096, pytest.approx(4.0)),
        (2**20, pytest.approx(3.0)),
    ]
    assert found.lines[1].group == "batch 1"
