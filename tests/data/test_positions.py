"""Positions with jumps."""

import math

import numpy as np

from octavo.data.positions import FAR, LIMIT, row_dilution, row_positions


def test_without_skips_positions_are_indices() -> None:
    assert np.array_equal(row_positions(np.random.default_rng(0), 1000, skips=0.0), np.arange(1000))


def test_jumps_are_multiples_of_128_at_multiples_of_128() -> None:
    for length in (256, 2048, 5000, 65_536):
        for seed in range(60):
            positions = row_positions(np.random.default_rng(seed), length, skips=1.0)
            steps = np.diff(positions.astype(np.int64))
            cuts = np.flatnonzero(steps != 1)
            assert positions.dtype == np.int32
            assert 1 <= len(cuts) <= 3
            assert ((cuts + 1) % 128 == 0).all()
            assert ((steps[cuts] - 1) % 128 == 0).all()
            assert (steps >= 1).all()
            assert positions[0] == 0
            assert positions[-1] < LIMIT


def test_half_of_the_jumping_rows_reach_far() -> None:
    last = np.array([row_positions(np.random.default_rng(s), 2048, skips=1.0)[-1] for s in range(600)])
    far = ((last >= FAR) & (last < LIMIT)).mean()
    assert 0.5 <= far < 0.75
    assert (last > 900_000).any()
    assert (last < 10_000).any()


def test_the_share_of_jumping_rows() -> None:
    jumped = [row_positions(np.random.default_rng(s), 1024, skips=0.3)[-1] > 1023 for s in range(600)]
    assert 0.24 < np.mean(jumped) < 0.36


def test_rows_without_room_do_not_jump() -> None:
    assert row_positions(np.random.default_rng(1), 128, skips=1.0)[-1] == 127
    assert row_positions(np.random.default_rng(1), LIMIT, skips=1.0)[-1] == LIMIT - 1


def test_dilution_stands_for_contexts_up_to_a_million() -> None:
    rng = np.random.default_rng(5)
    drawn = np.array([row_dilution(rng, 4096, share=0.5) for _ in range(4000)])
    assert 0.45 < (drawn > 0).mean() < 0.55
    assert drawn.min() >= 0
    assert drawn.max() <= math.log(256)
    assert abs(drawn[drawn > 0].mean() - math.log(256) / 2) < 0.15
    assert row_dilution(rng, 1 << 20, share=1.0) == 0.0
    assert all(row_dilution(rng, 512, share=0.0) == 0.0 for _ in range(20))
