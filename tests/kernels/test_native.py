"""The compiled loops: found where they were built, described in words, and left alone where they do not serve."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from octavo.kernels import dispatch, native
from octavo.kernels.linear import linear
from tests.support.bodies import BODIES, COMPILED, needs_compiled, take

ROOT = Path(__file__).resolve().parent.parent.parent


def test_what_runs_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "level", lambda: "C++, AVX2")
    monkeypatch.setattr(native, "library", lambda which: object())
    compiled = "compiled (C++, AVX2)"
    assert native.running() == f"decoding: {compiled}, reading: {compiled}, attention in reading: {compiled}"
    monkeypatch.setattr(native, "library", lambda which: object() if which == native.STEP else None)
    said = native.running()
    assert said.startswith(f"decoding: {compiled}, reading: numba's loops (")
    assert "without a C++ compiler" in said
    monkeypatch.setattr(native, "library", lambda which: None)
    monkeypatch.setattr(native, "level", lambda: None)
    assert native.running().count("no AVX2") == 3


@pytest.mark.parametrize(
    ("capability", "level"),
    [("AVX512", "C++, AVX-512"), ("AVX512_VNNI", "C++, AVX-512"), ("AVX2", "C++, AVX2"), ("DEFAULT", None)],
)
def test_the_level_is_the_processor_s(capability: str, level: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    assert native.level() == level


def test_a_package_built_without_a_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "FOLDER", tmp_path)
    native.load.cache_clear()
    assert native.load("C++, AVX2") is native.load("C++, AVX2", native.MANY) is None
    native.load.cache_clear()


@needs_compiled
@pytest.mark.parametrize("why", ["gradient", "reference", "many", "double", "no library"])
def test_when_it_does_not_serve(why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    take("numba" if why == "no library" else COMPILED[0], monkeypatch)
    x = torch.zeros(1, 8, dtype=torch.float64 if why == "double" else torch.float32)
    body = dispatch.Body.REFERENCE if why == "reference" else dispatch.Body.FAST
    with torch.set_grad_enabled(why == "gradient"), dispatch.use(body):
        assert not native.serves(x, 9 if why == "many" else 1)
    take(COMPILED[0], monkeypatch)
    with torch.no_grad():
        assert native.serves(torch.zeros(1, 8), 8)


@pytest.mark.parametrize("body", BODIES)
@torch.no_grad()
def test_threads_that_call_at_once(body: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One has the helpers, the others run alone: the same bits."""
    take(body, monkeypatch)
    x, weight = torch.randn(3, 100), torch.randn(900, 100)
    wanted = linear(x, weight)

    def again(_: int) -> bool:
        with torch.no_grad():
            return torch.equal(linear(x, weight), wanted)

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(again, range(200)))


_FORKING = """
import os, torch
from octavo.kernels.linear import linear
torch.set_num_threads(2)
with torch.no_grad():
    x, weight = torch.randn(1, 256), torch.randn(2000, 256)
    wanted = linear(x, weight)
    child = os.fork()
    same = torch.equal(linear(x, weight), wanted)
    if child == 0:
        os._exit(0 if same else 1)
    raise SystemExit(0 if same and os.waitpid(child, 0)[1] == 0 else 1)
"""


@needs_compiled
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_has_helpers_of_its_own() -> None:
    run = subprocess.run([sys.executable, "-W", "ignore", "-c", _FORKING], cwd=ROOT, timeout=60, check=False)
    assert run.returncode == 0
