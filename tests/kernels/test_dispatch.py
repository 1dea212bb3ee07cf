"""The choice of bodies: default, override, restoration, isolation between threads, and that operations obey it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import cast

import pytest
import torch
from torch import Tensor

from octavo.config.errors import UsageError
from octavo.kernels import dispatch
from octavo.kernels.dispatch import TRITON, Body, body, fusable, train_in_triton, use
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


def test_fusable_functions_compile_only_where_training_runs_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[str] = []

    def compile_by_name(function: Callable[..., Tensor], **options: object) -> Callable[..., Tensor]:
        assert options == {"dynamic": False}
        compiled.append(function.__name__)
        return lambda *arguments: function(*arguments) + 100

    @fusable
    def doubled(x: Tensor, times: int) -> Tensor:
        return x * times

    monkeypatch.setattr(torch, "compile", compile_by_name)
    assert doubled(torch.ones(1), 2).item() == 2
    monkeypatch.setattr(dispatch, "trains_on_gpu", lambda x: True)
    assert [doubled(torch.ones(1), 2).item() for _ in range(2)] == [102, 102]
    assert compiled == ["doubled"]
    assert doubled.__name__ == "doubled"


def test_training_on_a_gpu_needs_a_gpu_gradients_and_the_fast_bodies() -> None:
    class Fake:
        is_cuda = True

    cuda = cast(Tensor, Fake())
    assert dispatch.trains_on_gpu(cuda)
    with torch.no_grad():
        assert not dispatch.trains_on_gpu(cuda)
    with use(Body.REFERENCE):
        assert not dispatch.trains_on_gpu(cuda)
    assert not dispatch.trains_on_gpu(torch.ones(1))


def test_triton_trains_what_it_is_told_to_and_only_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "_has_triton", lambda: True)
    x = torch.ones(1, requires_grad=True)
    if not x.is_cuda:
        assert not dispatch.trains_in_triton(x, "rope")
    monkeypatch.setattr(dispatch, "trains_on_gpu", lambda x: True)
    assert all(dispatch.trains_in_triton(x, operation) for operation in TRITON)
    with train_in_triton(("rope",)):
        assert [op for op in TRITON if dispatch.trains_in_triton(x, op)] == ["rope"]
        with train_in_triton(()):
            assert not any(dispatch.trains_in_triton(x, op) for op in TRITON)
        assert dispatch.trains_in_triton(x, "rope")
    monkeypatch.setattr(dispatch, "_has_triton", lambda: False)
    assert not dispatch.trains_in_triton(x, "rope")


def test_an_operation_without_a_triton_body_is_named() -> None:
    with pytest.raises(UsageError, match=r"^operations softmax have no Triton body for training; these have: .*rope"):
        train_in_triton(("rope", "softmax")).__enter__()


def test_what_is_recomputed_in_another_thread_takes_the_bodies_of_the_first_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dispatch, "_has_triton", lambda: True)
    monkeypatch.setattr(dispatch, "trains_on_gpu", lambda x: True)
    seen: list[tuple[Body, bool, bool]] = []

    def look() -> None:
        x = torch.ones(1)
        seen.append((body(), dispatch.trains_in_triton(x, "rope"), dispatch.trains_in_triton(x, "hyper")))

    with use(Body.REFERENCE), train_in_triton(("rope",)):
        first, again = dispatch.recomputed()

    def backward() -> None:
        for _ in range(2):  # as of a graph that is kept
            with again:
                look()
        look()

    with first:
        look()
    thread = threading.Thread(target=backward)
    thread.start()
    thread.join()
    free = (Body.FAST, True, True)
    assert seen == [free, *[(Body.REFERENCE, True, False)] * 2, free]
