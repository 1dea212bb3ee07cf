"""Settings every test runs under: one torch thread a worker, fixed seeds, a fixed hypothesis profile."""

from __future__ import annotations

import importlib.util
import os
import random

# Read when OpenMP starts, so it must stand before the first import of torch; subprocesses inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings

from tests.support.interpreter import search_once

# Read when Triton is imported: without a GPU its kernels run in the interpreter.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")
    if importlib.util.find_spec("triton"):
        search_once()

torch.set_num_threads(1)

# Deadlines measure the machine, not the code, once several workers share its cores.
settings.register_profile("octavo", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("octavo")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Start every test from the same random state, whatever ran before it in this worker."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - libraries under test may still draw from the legacy generator
    torch.manual_seed(0)
