"""The bodies that a handful of tokens can have on this machine: compiled, at every level it has, and numba's.

Covers: `BODIES` to parametrise tests with, and `take`. Does not cover: reference bodies (`octavo.kernels.dispatch`).
"""

from __future__ import annotations

import pytest

from octavo.kernels import native

_BELOW = {"C++, AVX-512": ("C++, AVX-512", "C++, AVX2"), "C++, AVX2": ("C++, AVX2",)}
COMPILED = [name for name in _BELOW.get(native.level() or "", ()) if native.load(name) is not None]
BODIES = [*COMPILED, "numba"]

needs_compiled = pytest.mark.skipif(not COMPILED, reason="the package was built without a compiler, or for another CPU")


def take(body: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `body` of `BODIES` run for the rest of the test."""
    monkeypatch.setattr(
        native, "library", lambda which=native.STEP: None if body == "numba" else native.load(body, which)
    )
