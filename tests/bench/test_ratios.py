"""Every headline ratio from records that are made up: the value, the fields, and what is said where there is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from octavo.bench import ratios
from octavo.bench.ratios import FLASHMLA_FLOPS, PUBLIC, Reached, Records
from tests.bench.toys import by_length, outcome, record, sliced, sources

ABOUT = {"date": "2026-11-26T00:00:00+00:00", "commit": "0123456789abcdef", "device": "CPU 8086"}
LATE = "2026-11-27T00:00:00+00:00"


def known(folder: Path, **files: Any) -> Records:
    return Records.of(sources(folder, **files))


def reached(found: Reached | str) -> Reached:
    assert isinstance(found, Reached), found
    return found


def test_a_case_over_measured_rates(tmp_path: Path) -> None:
    records = known(tmp_path, a=record(outcome("none"), outcome()))
    products = reached(ratios.over_rate("double", "one", "bf16")(records))
    assert (products.value, products.fields) == (0.3, "cases.1.flops_per_second / rates.peaks.bf16")
    copy = reached(ratios.over_rate("double", "one", "bandwidth")(records))
    assert (copy.value, copy.fields) == (0.5, "cases.1.bytes_per_second / rates.bandwidth")
    assert ratios.over_rate("double", "three", "bf16")(records) == "no record"


def test_a_case_that_is_wrong_in_its_newest_record_has_no_ratio(tmp_path: Path) -> None:
    records = known(tmp_path, a=record(outcome()), b=record(outcome(status="wrong", message="error 1"), date=LATE))
    assert ratios.over_rate("double", "one", "bf16")(records) == "wrong: error 1"


def test_a_case_that_another_devices_newer_run_did_not_come_to_keeps_its_time(tmp_path: Path) -> None:
    later = record(outcome(status="not reached", message="the budget was spent"), device="another", date=LATE)
    records = known(tmp_path, a=record(outcome()), b=later)
    assert reached(ratios.over_rate("double", "one", "bf16")(records)).value == 0.3
    (tmp_path / "a.json").unlink()
    alone = known(tmp_path, b=later)
    assert ratios.over_rate("double", "one", "bf16")(alone) == "not reached: the budget was spent"


def test_a_case_over_a_peer(tmp_path: Path) -> None:
    records = known(tmp_path, a=record(outcome()))
    found = reached(ratios.over_peer("double", "one", "v1.2 eager")(records))
    assert (found.value, found.fields) == (2.0, "cases.0.peers.v1.2 eager.ratio.median")
    for name in ("other", "nobody"):  # one failed, one was never there
        why = ratios.over_peer("double", "one", name)(records)
        assert why == f"the record of this case has no time of {name!r}"


def test_the_quickest_public_kernel_counts_and_without_one_a_published_figure_is_named(tmp_path: Path) -> None:
    times = {"low": 1.0, "high": 9.0}
    peers = {f"{PUBLIC}A": {"ratio": times | {"median": 1.5}}, f"{PUBLIC}B": {"ratio": times | {"median": 0.5}}}
    find = ratios.best_public("double", "one")
    assert reached(find(known(tmp_path, a=record(outcome(peers=peers | outcome()["peers"]))))).value == 0.5
    why = find(known(tmp_path, a=record(outcome(flops_per_second=FLASHMLA_FLOPS / 4))))
    assert isinstance(why, str)
    assert "640 TFLOP/s; ours reached 0.25 of it on made up" in why
    assert find(known(tmp_path, a=record())) == "no record"


def test_a_decode_step_at_a_million_over_one_at_4096(tmp_path: Path) -> None:
    newer = sliced(date=LATE, decode=sliced()["decode"][:1])  # lacks the far step
    found = reached(ratios.step_growth(known(tmp_path, a=sliced(), b=newer)))
    assert found.value == pytest.approx(1.5)
    assert found.fields == "decode.1.seconds.median / decode.0.seconds.median"
    assert found.note == "a slice of 6 layers, 2 of them with an index"
    assert "no record" in str(ratios.step_growth(known(tmp_path, a=newer, b={})))


def test_the_least_share_of_a_decode_step(tmp_path: Path) -> None:
    batch = [step | {"batch": 8, "share": 0.1} for step in sliced()["decode"]]
    found = reached(ratios.step_share(known(tmp_path, a=sliced(decode=[*batch, *sliced()["decode"]]))))
    assert (found.value, found.fields) == (0.4, "decode.3.share")
    assert found.note == "the least over contexts, 1,048,576 tokens; the best is 0.50"
    assert "no record" in str(ratios.step_share(known(tmp_path, a=sliced(decode=batch))))


def test_drafts_of_a_trained_model_count(tmp_path: Path) -> None:
    drafts = [{"draft": 1, "speed_ratio": 1.2}, {"draft": 3, "speed_ratio": 1.7}]
    chance = ABOUT | {"date": LATE, "model": "octavo-s with random weights", "drafts": drafts}
    assert "trained" in str(ratios.drafts(known(tmp_path, a=chance)))
    found = reached(ratios.drafts(known(tmp_path, a=chance, b=ABOUT | {"model": "octavo-s", "drafts": drafts})))
    assert (found.value, found.fields, found.note) == (1.7, "drafts.1.speed_ratio", "octavo-s, 3 drafts")


def test_a_million_tokens_with_the_quicker_index_of_the_newest_record(tmp_path: Path) -> None:
    row = {"tokens_per_second": 1.0}
    far = [row | {"tokens": 2**20, "seconds": s, "index_levels": n} for s, n in ((1200.0, 1), (600.0, 2))]
    short = by_length(row | {"tokens": 2**20 - 1, "seconds": 1.0}, model="s", date=LATE)
    other = by_length(row | {"tokens": 2**20, "seconds": 1.0}, date=LATE)
    assert "no record" in str(ratios.million(known(tmp_path, a=short, b=other)))
    found = reached(ratios.million(known(tmp_path, a=short, b=other, c=by_length(*far, model="s"))))
    assert (found.value, found.fields, found.note) == (10.0, "lengths.1.seconds / 60", "index of 2 levels, AVX2")


def test_offload_over_the_longer_of_computing_and_the_disk(tmp_path: Path) -> None:
    def held(speed: float, read: float, wasted: float) -> dict[str, float]:
        return {"tokens_per_second": speed, "read_bytes_per_token": read, "wasted_bytes_per_token": wasted}

    decode = {
        "resident": {"tokens_per_second": 10.0}, "100%": held(1.0, 0.0, 0.0),
        "50%": held(6.0, 20.0, 10.0),  # the disk would give 10 tokens/s, as many as computing does
        "10%": held(4.0, 60.0, 40.0),  # here 5
    }  # fmt: skip
    given = ABOUT | {"expert_bytes": 1, "decode": decode, "disk_bytes_per_second": {"decode": [1.0, 100.0, 900.0]}}
    busy = given | {"date": LATE, "decode": {"50%": decode["50%"]}}  # newer, without a resident model
    found = reached(ratios.offload(known(tmp_path, a=given, b=busy)))
    assert found.value == pytest.approx(0.6)
    assert found.note == "the least over hot sets, 50% of the experts held; the best is 0.80"
    assert "no record" in str(ratios.offload(known(tmp_path, a=busy)))


def test_two_levels_at_the_longest_context(tmp_path: Path) -> None:
    runs = [{"two_levels": {}, "tokens": n, "overlap": o, "mass": 0.9} for n, o in ((2**18, 0.8), (2**16, 0.9))]
    found = reached(ratios.levels_recall(known(tmp_path, a=ABOUT | {"runs": runs})))
    assert (found.value, found.fields) == (0.8, "runs.0.overlap")
    assert found.note == "262,144 tokens, 0.90 of the picks' weight"
    assert ratios.levels_recall(known(tmp_path, a={})) == "no record"


def test_runs_that_end_before_two_levels_begin_are_not_theirs(tmp_path: Path) -> None:
    rows = ((2**18, 2**18, 1.0), (2**16, 0, 0.9), (2**17, 2**18, 1.0), (2**15, 0, 0.8))
    runs = [{"two_levels": {}, "tokens": n, "index_from_tokens": b, "overlap": o, "mass": 0.9} for n, b, o in rows]
    exact = ABOUT | {"date": LATE, "runs": [runs[0], runs[2]]}
    assert ratios.levels_recall(known(tmp_path, a=exact)) == "no record"
    found = reached(ratios.levels_recall(known(tmp_path, a=exact, b=ABOUT | {"runs": runs})))
    assert (found.value, found.fields) == (0.9, "runs.1.overlap")
