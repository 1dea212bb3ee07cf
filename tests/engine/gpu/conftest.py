"""One model and its two runners for all tests of the GPU path."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("triton")

from octavo.engine.gpu.runner import GpuRunner
from octavo.engine.runner import Runner
from octavo.model.transformer import Transformer
from tests.support.gpu_world import gpu_runner, plain_runner, small_model, some_ids


@pytest.fixture(scope="package")
def model() -> Transformer:
    return small_model()


@pytest.fixture(scope="package")
def plain(model: Transformer) -> Runner:
    return plain_runner(model)


@pytest.fixture(scope="package")
def fast(model: Transformer) -> GpuRunner:
    return gpu_runner(model)


@pytest.fixture(scope="package")
def ids() -> np.ndarray:
    return some_ids()
