"""Launches that only compile: on this thread, until the end, errors included."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch

pytest.importorskip("triton")

from triton.runtime.jit import JITFunction

from octavo.engine.gpu.compiling import compiled_only


def test_launches_of_this_thread_alone_only_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[Any, ...]] = []

    def launch(self: object, *given: Any, grid: Any, warmup: bool, **options: Any) -> None:
        seen.append((given, grid, warmup, options))

    monkeypatch.setattr(JITFunction, "run", launch)
    kernel = object.__new__(JITFunction)
    with compiled_only(2):
        kernel[(3,)](1, num_warps=4)
        other = threading.Thread(target=lambda: kernel[(4,)](2))
        other.start()
        other.join()
    kernel[(5,)](3)
    assert seen == [((1,), (3,), True, {"num_warps": 4}), ((2,), (4,), False, {}), ((3,), (5,), False, {})]


def test_launches_are_what_they_were_behind_an_error() -> None:
    before = JITFunction.run
    with pytest.raises(KeyError), compiled_only(1):
        raise KeyError
    assert JITFunction.run is before


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_what_is_compiled_is_not_launched_and_is_there_afterwards() -> None:
    from octavo.kernels.rmsnorm.triton import rmsnorm

    x, gain = torch.randn(5, 96, device="cuda"), torch.ones(96, device="cuda")
    wanted = torch.nn.functional.rms_norm(x, (96,), gain, 1e-6)
    with compiled_only(4):
        rmsnorm(x, gain, 1e-6)
    torch.testing.assert_close(rmsnorm(x, gain, 1e-6), wanted)
