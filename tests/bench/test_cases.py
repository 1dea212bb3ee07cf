"""Every tiny case of every operation gives its reference's result; on a machine without a GPU in Triton's interpreter.
"""

from __future__ import annotations

import pkgutil
from importlib import import_module

import pytest
import torch

from octavo.bench import cases
from octavo.bench.case import Case

pytest.importorskip("triton")

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
MODULES = sorted(module.name for module in pkgutil.iter_modules(cases.__path__))
TINY = [case for name in MODULES for case in import_module(f"{cases.__name__}.{name}").cases() if case.size == "tiny"]


@pytest.mark.parametrize("case", [pytest.param(case, id=f"{case.op}-{case.name}") for case in TINY])
def test_case(case: Case) -> None:
    inputs = case.inputs(DEVICE)
    assert case.error(case.run(**inputs), case.reference(**inputs)) <= case.tolerance


def test_inputs_are_the_same_every_time() -> None:
    for case in TINY:
        first, second = case.inputs(DEVICE), case.inputs(DEVICE)
        for name, value in first.items():
            if isinstance(value, torch.Tensor):
                torch.testing.assert_close(value, second[name], rtol=0, atol=0, equal_nan=True)
