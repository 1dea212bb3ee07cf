"""The choice of bodies: default, override, restoration, isolation between threads, and that operations obey it."""

from __future__ import annotations

import threading

import pytest
import torch

from octavo.kernels import dispatch
from octavo.kernels.dispatch import Body, body, use
from octavo.kernels.experts import experts, fast


def test_fast_is_the_default_and_overrides_nest() -> None:
    assert body() is Body.FAST
    with use(Body.REFERENCE):
        assert body() is Body.REFERENCE
        with use(Body.FAST):
            assert body() is Body.FAST
        assert body() is Body.REFERENCE
    assert body() is Body.FAST


def test_an_error_inside_restores_the_body() -> None:
    with pytest.raises(KeyError), use(Body.REFERENCE):
        raise KeyError
    assert body() is Body.FAST


def test_an_override_stays_in_its_thread() -> None:
    seen: list[dispatch.Body] = []
    with use(Body.REFERENCE):
        thread = threading.Thread(target=lambda: seen.append(body()))
        thread.start()
        thread.join()
    assert seen == [Body.FAST]


def test_an_operation_runs_the_body_in_force(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("fast body")

    monkeypatch.setattr(fast, "gathered", refuse)
    x, w = torch.randn(1, 4), torch.randn(2, 3, 4)
    chosen, weights = torch.zeros(1, 1, dtype=torch.int64), torch.ones(1, 1)
    with use(Body.REFERENCE):
        experts(x, w, w, w.transpose(1, 2), chosen=chosen, weights=weights, limit=None)
    with pytest.raises(AssertionError, match="fast body"):
        experts(x, w, w, w.transpose(1, 2), chosen=chosen, weights=weights, limit=None)
