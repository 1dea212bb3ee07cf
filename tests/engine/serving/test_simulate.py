from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo.config.errors import UsageError
from octavo.engine.serving.scheduler import Rules
from octavo.engine.serving.simulate import Costs, Trace, generate, load, main, percentile, save, simulate

COSTS = Costs(start_seconds=0.001, read_token_seconds=0.001, answer_step_seconds=0.01, page_seconds=0.001)


def test_one_job_takes_what_its_tasks_cost() -> None:
    trace = [Trace(arrival=2.0, prompt=512, most=5)]
    report = simulate(trace, Rules(lanes=1, total_pages=100), COSTS)
    assert report.first_token_seconds == [pytest.approx(0.513)]
    assert report.gaps == [pytest.approx(0.01)] * 4
    assert report.makespan == pytest.approx(2.553)
    assert (report.ended, report.answer_tokens, report.tasks) == (1, 5, 6)


@pytest.mark.parametrize("lanes", [1, 2, 4])
def test_a_running_stream_waits_for_one_chunk_at_most(lanes: int) -> None:
    rules = Rules(lanes=lanes, total_pages=4000, max_running=12)
    trace = generate(5, 80, rate=5, prompt=600, answer=20)
    report = simulate(trace, rules, COSTS)
    assert report.ended == 80
    assert report.saves == 0
    chunk, steps = 256 * COSTS.read_token_seconds, rules.max_running * COSTS.answer_step_seconds
    assert max(report.gaps) <= chunk + steps + 1e-9
    if lanes > 1:
        assert max(report.gaps) < chunk


def test_more_lanes_are_sooner_done() -> None:
    trace = generate(6, 40, prompt=500, answer=20)
    spans = [simulate(trace, Rules(lanes=lanes, total_pages=4000), COSTS).makespan for lanes in (1, 2, 4)]
    assert spans[0] > spans[1] > spans[2]


def test_a_shared_prefix_is_read_once() -> None:
    trace = [Trace(arrival=i * 10.0, prompt=1100, most=2, prefix="p", prefix_tokens=1024) for i in range(3)]
    report = simulate(trace, Rules(total_pages=50), COSTS)
    assert report.cached_tokens == 2048
    assert report.first_token_seconds[1] < report.first_token_seconds[0] / 5


def test_cancelled_jobs_leave_at_once() -> None:
    trace = [Trace(prompt=100000, most=5, cancel=1.0), Trace(arrival=0.5, prompt=10, most=1)]
    report = simulate(trace, Rules(lanes=1, total_pages=1000), COSTS)
    assert (report.cancelled, report.ended) == (1, 1)
    assert report.makespan < 4


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10**6), lanes=st.integers(1, 4), pages=st.integers(20, 60), burst=st.integers(1, 4))
def test_every_job_ends_with_few_pages(seed: int, lanes: int, pages: int, burst: int) -> None:
    trace = generate(seed, 25, rate=20, prompt=300, answer=60, cancels=0.2, shared=0.5, priorities=(-10, 0, 0, 10))
    rules = Rules(lanes=lanes, total_pages=pages, page_tokens=64, chunk=64, ahead_tokens=32, burst=burst)
    report = simulate(trace, rules, COSTS)
    assert report.ended + report.cancelled + report.refused + report.failed == 25
    assert report.peak_pages <= pages
    assert report.order == simulate(trace, rules, COSTS).order


def test_pressure_saves_jobs_and_loses_none() -> None:
    trace = [Trace(prompt=100, most=900) for _ in range(6)]
    rules = Rules(total_pages=40, page_tokens=64, ahead_tokens=32)
    report = simulate(trace, rules, COSTS)
    assert (report.ended, report.failed) == (6, 0)
    assert report.saves > 0
    assert len(report.swapped_gaps) > 0
    assert report.answer_tokens == 5400


def test_traces_survive_a_file(tmp_path: Path) -> None:
    trace = generate(1, 20, cancels=0.3, shared=0.5)
    save(trace, tmp_path / "trace.jsonl")
    assert load(tmp_path / "trace.jsonl") == trace
    assert trace != generate(2, 20, cancels=0.3, shared=0.5)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2 of .* is not JSON"),
        ("[]", "line 2 of .* is no JSON object"),
        ('{"prompt": 1}', "line 2 of .*: most is missing"),
        ('{"prompt": 1, "most": 1, "x": 2}', "line 2 of .*: x is no field"),
        ('{"prompt": "1", "most": 1}', "line 2 of .*: prompt is '1'; it must be an integer"),
        ('{"prompt": true, "most": 1}', "prompt is True; it must be an integer"),
        ('{"prompt": 0, "most": 1}', "prompt is 0; it must be at least 1"),
        ('{"prompt": 1, "most": 1, "answer": 2}', "answer is 2; it must be at least 1 and at most 1"),
        ('{"prompt": 1, "most": 1, "arrival": NaN}', "arrival is nan; it must be a finite number"),
        ('{"prompt": 1, "most": 1, "arrival": 3, "cancel": 2}', "cancel is 2; it must be at least 3"),
        ('{"prompt": 1, "most": 1, "prefix": 2}', "prefix is 2; it must be text"),
        ('{"prompt": 1, "most": 1, "prefix_tokens": 2}', "prefix_tokens is 2; .* at most 1"),
        ('{"prompt": null, "most": 1}', "prompt is None; it must be an integer"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_text('{"prompt": 1, "most": 1}\n' + line + "\n", encoding="utf-8")
    with pytest.raises(UsageError, match=message):
        load(path)


def test_a_missing_file_and_negative_costs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        load(tmp_path / "none")
    with pytest.raises(UsageError, match="start_seconds is -1"):
        Costs(start_seconds=-1)


def test_percentiles_are_values_that_occurred() -> None:
    assert [percentile([3, 1, 2, 4], rank) for rank in (0, 50, 75, 99, 100)] == [1, 2, 3, 4, 4]
    assert percentile([], 50) == 0.0


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "trace.jsonl"
    save(generate(1, 5, prompt=100, answer=5), path)
    assert main([str(path), "--lanes", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ended"] == 5
    assert main(["--random", "3"]) == 0
    assert "makespan" in capsys.readouterr().out
    assert main([]) == 2
    assert "either a trace or --random" in capsys.readouterr().err
    assert main([str(path), "--lanes", "0"]) == 2
    assert "lanes is 0" in capsys.readouterr().err
