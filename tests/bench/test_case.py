"""The measure of a result's error."""

from __future__ import annotations

import math

import torch

from octavo.bench.case import relative_l2


def test_relative_error_is_that_of_the_worst_output() -> None:
    wanted = (torch.ones(4), torch.full((2,), 2.0))
    assert relative_l2(wanted, wanted) == 0
    got = (torch.ones(4), torch.tensor([2.0, 2.2]))
    assert math.isclose(relative_l2(got, wanted), 0.2 / math.sqrt(8), rel_tol=1e-5)


def test_nan_is_an_error() -> None:
    assert not relative_l2(torch.tensor([math.nan]), torch.ones(1)) <= 1e9


def test_zero_against_zero_is_no_error() -> None:
    assert relative_l2(torch.zeros(3), torch.zeros(3)) == 0
