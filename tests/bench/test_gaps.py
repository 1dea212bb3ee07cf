"""Gaps between tokens, told in parts of a usual one."""

from __future__ import annotations

import pytest

from octavo.bench.gaps import attributed, beside, spread
from octavo.bench.waits import Cause, Parts


def gap(whole: float, *, without_core: float = 0.0) -> Parts:
    return Parts(whole=whole, computed=whole - without_core, without_core=without_core, blocked=0.0, others=whole)


def test_spread_is_in_seconds_and_in_usual_ones() -> None:
    told = spread([0.25] * 98 + [0.5, 2.0], 0.25)
    assert (told["gaps"], told["median_seconds"], told["longest_seconds"], told["above_3x"]) == (100, 0.25, 2.0, 1)
    assert (told["median_over_usual"], told["longest_over_usual"]) == (1.0, 8.0)
    assert told["p99_over_usual"] == pytest.approx(0.515 / 0.25)


def test_long_gaps_have_causes_and_time_without_a_core_is_not_ones_own() -> None:
    known = [*[gap(1.0)] * 10, gap(4.0, without_core=3.0), gap(9.0), None]
    told = attributed(known, 1.0, 1.0)
    assert told["above_3x_by_cause"] == {str(Cause.CORE): 1, str(Cause.COMPUTED): 1}
    assert (told["own_above_3x"], told["own_longest_over_usual"], told["untold"]) == (1, 9.0, 1)
    assert [one["whole"] for one in told["longest_went_to"]] == [9.0, 4.0, 1.0, 1.0, 1.0]
    assert told["longest_went_to"][1]["cause"] == Cause.CORE


def test_a_system_that_tells_nothing_gives_nothing() -> None:
    assert attributed([None, None], 1.0, 1.0) == {}


def test_what_is_ones_own_is_measured_by_what_usually_is() -> None:
    told = attributed([*[gap(2.0, without_core=1.0)] * 9, gap(6.0, without_core=1.0)], 2.0, 1.0)
    assert (told["own_median_over_usual"], told["own_longest_over_usual"], told["own_above_3x"]) == (1.0, 5.0, 1)
    assert told["above_3x_by_cause"] == {}
    assert told["own_longest_went_to"][0]["own"] == 5.0


def test_gaps_are_measured_by_the_same_tokens_alone() -> None:
    alone = [1.0] * 200 + [2.0] * 200
    told = beside([1.0] * 200 + [2.0] * 199 + [8.0, 99.0], alone)
    assert (told["gaps"], told["median"], told["longest"], told["above_3x"]) == (400, 1.0, 4.0, 1)
