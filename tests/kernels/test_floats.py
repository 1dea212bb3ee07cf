"""Functions of FP32 numbers that loops vectorise: against numpy, at the borders, with NaN."""

from __future__ import annotations

import numpy as np
import pytest

from octavo.kernels.compiled import loop
from octavo.kernels.floats import exp, highest, logistic


@loop
def _both(x, powers, shares):
    for i in range(len(x)):
        powers[i], shares[i] = exp(x[i]), logistic(x[i])


def run(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    powers, shares = np.empty_like(x), np.empty_like(x)
    _both(x, powers, shares)
    return powers, shares


def test_exponential_and_logistic_curve() -> None:
    x = np.concatenate((np.linspace(-86, 86, 30_001), np.linspace(-1, 1, 1001), [0.0])).astype(np.float32)
    powers, shares = run(x)
    wide = x.astype(np.float64)
    assert np.all(np.abs(powers / np.exp(wide) - 1) < 1e-7 * (2 + np.abs(wide)))
    np.testing.assert_allclose(shares, 1 / (1 + np.exp(-wide)), rtol=1e-5, atol=1e-7)
    assert powers[-1] == 1


def test_borders_and_nan() -> None:
    powers, shares = run(np.array([-np.inf, -1000, 1000, np.inf, np.nan], dtype=np.float32))
    assert np.all(powers[:2] < 2e-38)
    assert np.all(powers[2:4] > 1e38)
    np.testing.assert_allclose(shares[:4], [0, 0, 1, 1], atol=1e-37)
    assert np.isnan(powers[4])
    assert np.isnan(shares[4])


@pytest.mark.parametrize("n", [1, 7, 64, 1001])
def test_highest(n: int) -> None:
    rng = np.random.default_rng(n)
    for shift in (-20, 0, 20):
        row = rng.standard_normal(n, dtype=np.float32) + np.float32(shift)
        assert highest(row) == row.max()
    row[n // 2] = np.nan
    assert np.isnan(highest(row))


def test_highest_of_odd_rows() -> None:
    assert highest(np.empty(0, dtype=np.float32)) == -np.inf
    assert highest(np.array([-np.inf, -np.inf], dtype=np.float32)) == -np.inf
    assert highest(np.array([-np.inf, np.inf, 3.0], dtype=np.float32)) == np.inf
