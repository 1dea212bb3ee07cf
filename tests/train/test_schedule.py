"""The schedule: stages, rates, draws, and that all of it is a function of the step alone."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import pytest

from octavo.cache.view import Picks
from octavo.data.shares import Mix
from octavo.train.schedule import Schedule, Stage

STAGES = (
    Stage(name="dense", steps=10, row_lengths=(64,), warmup=4, rate=1.0, final_rate=0.5),
    Stage(
        name="sparse", steps=300, row_lengths=(64, 128, 256), shares=(2.0, 1.0, 1.0), topk=(8, 16), rate=0.5,
        final_rate=0.1, skips=0.4,
    ),
)  # fmt: skip
SCHEDULE = Schedule(stages=STAGES, seed=3)


def test_borders_of_stages() -> None:
    assert SCHEDULE.steps == 310
    assert [SCHEDULE.plan(step).stage for step in (0, 9, 10, 309)] == ["dense", "dense", "sparse", "sparse"]
    with pytest.raises(ValueError, match="step 310 is beyond the schedule's 310 steps"):
        SCHEDULE.plan(310)


def test_plans_do_not_depend_on_what_was_asked_before() -> None:
    forward = [SCHEDULE.plan(step) for step in range(310)]
    assert [Schedule(stages=STAGES, seed=3).plan(step) for step in reversed(range(310))] == forward[::-1]
    assert [Schedule(stages=STAGES, seed=4).plan(step) for step in range(310)] != forward


def test_rate_rises_linearly_and_falls_along_a_cosine() -> None:
    rates = [SCHEDULE.plan(step).rate for step in range(310)]
    assert rates[:4] == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert rates[4:10] == pytest.approx([0.5 + 0.25 * (1 + math.cos(math.pi * i / 6)) for i in range(6)])
    assert rates[10] == pytest.approx(0.5)
    assert rates[160] == pytest.approx(0.3)
    assert rates[309] == pytest.approx(0.1, abs=1e-3)
    assert all(a >= b for a, b in itertools.pairwise(rates[4:]))


def test_draws_follow_the_shares() -> None:
    plans = [SCHEDULE.plan(step) for step in range(10, 310)]
    lengths, picks = Counter(p.row_length for p in plans), Counter(p.topk for p in plans)
    assert lengths[64] == pytest.approx(150, abs=30)
    assert lengths[128] == pytest.approx(75, abs=25)
    assert set(lengths) == {64, 128, 256}
    assert picks[8] == pytest.approx(150, abs=30)
    assert set(picks) == {8, 16}


def test_a_stage_without_picks_attends_to_all_entries() -> None:
    dense, sparse = SCHEDULE.plan(0), SCHEDULE.plan(200)
    assert (dense.picks, dense.topk, dense.skips) == (Picks.ALL, None, 0.0)
    assert (sparse.picks, sparse.skips) == (Picks.INDEX, 0.4)


@pytest.mark.parametrize(("length", "every"), [(256, 1), (1024, 5), (4096, 5), (16384, 11), (65536, 43)])
def test_long_rows_teach_the_indexer_at_an_odd_share_of_queries(length: int, every: int) -> None:
    stage = Stage(name="a", steps=1, row_lengths=(length,))
    assert Schedule(stages=(stage,)).plan(0).index_every == every


def test_every_step_has_the_mix_of_its_stage() -> None:
    first, second = Mix(plain=0.5), Mix(code=0.5)
    stages = tuple(Stage(name=n, steps=2, row_lengths=(64,), mix=mix) for n, mix in (("a", first), ("b", second)))
    assert [Schedule(stages=stages).plan(step).mix for step in range(4)] == [first, first, second, second]
    assert SCHEDULE.plan(0).mix == Mix()
