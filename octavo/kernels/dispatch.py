"""The one place that picks the body of an operation.

Covers: the choice between the plain reference (`REFERENCE`) and the bodies meant for use (`FAST`), an override for
tests, `fusable`: functions of elementwise arithmetic that are compiled into few kernels while a model trains on a GPU,
which operations train in Triton there instead, and when loops run on the CPU. Does not cover: the bodies themselves;
within `FAST` an operation may still choose by device, dtype and shape, never by anything else.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from contextvars import ContextVar
from enum import StrEnum
from importlib.util import find_spec
from typing import Any, TypeVar

import torch
from torch import Tensor

from octavo.config.errors import UsageError


class Body(StrEnum):
    """Which implementation of every operation runs."""

    REFERENCE = "reference"
    FAST = "fast"


_BODY: ContextVar[Body] = ContextVar("octavo_body", default=Body.FAST)


def body() -> Body:
    """The body in force in this context."""
    return _BODY.get()


@contextlib.contextmanager
def use(choice: Body) -> Iterator[None]:
    """Run the enclosed code with `choice` for every operation; for tests and for reference runs."""
    token = _BODY.set(choice)
    try:
        yield
    finally:
        _BODY.reset(token)


def trains_on_gpu(x: Tensor) -> bool:
    """Whether the bodies made for training on a GPU run: CUDA, gradients on, and not the reference."""
    return x.is_cuda and torch.is_grad_enabled() and body() is Body.FAST


# Operations with a Triton body for training; the others have compiled functions alone.
TRITON = frozenset(
    {
        "cross_entropy", "engram_lookup", "experts", "hyper", "index_topk", "rmsnorm", "rope", "route",
        "sparse_attention",
    }
)  # fmt: skip
TRITON_FLOATS = (torch.bfloat16, torch.float16, torch.float32)  # what kernels of single rows take
_IN_TRITON: ContextVar[frozenset[str]] = ContextVar("octavo_in_triton", default=TRITON)


def trains_in_triton(x: Tensor, operation: str) -> bool:
    """Whether `operation` (of `TRITON`) takes its Triton body: where `trains_on_gpu`, if Triton is installed.

    Dtypes and shapes that its kernels do not take stay with the operation.
    """
    return trains_on_gpu(x) and operation in _IN_TRITON.get() and _has_triton()


@functools.cache
def _has_triton() -> bool:
    return find_spec("triton") is not None


@contextlib.contextmanager
def train_in_triton(operations: Iterable[str]) -> Iterator[None]:
    """Run the enclosed code with Triton bodies for these operations alone while training on a GPU, and with compiled
    functions for the others; for measuring. UsageError for an operation that has none."""
    chosen = frozenset(operations)
    if not chosen <= TRITON:
        raise UsageError(
            f"operations {', '.join(sorted(chosen - TRITON))} have no Triton body for training; these have: "
            f"{', '.join(sorted(TRITON))}"
        )
    token = _IN_TRITON.set(chosen)
    try:
        yield
    finally:
        _IN_TRITON.reset(token)


def recomputed() -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
    """`context_fn` of torch's checkpoint: what is computed again takes the bodies of the first time, though the
    backward pass of a GPU runs in a thread of its own, which knows no override."""
    return contextlib.nullcontext(), _Again(_BODY.get(), _IN_TRITON.get())


class _Again(AbstractContextManager[None]):
    """Both overrides; may be entered several times, one after another, as a graph that is kept is recomputed."""

    def __init__(self, choice: Body, operations: frozenset[str]) -> None:
        self._choice, self._operations = choice, operations
        self._inside = contextlib.ExitStack()

    def __enter__(self) -> None:
        self._inside.enter_context(use(self._choice))
        self._inside.enter_context(train_in_triton(self._operations))

    def __exit__(self, *_: object) -> None:
        self._inside.close()


_FEW = 8  # tokens up to which an operation with large products is a loop too


def loops_on_cpu(x: Tensor, *, tokens: int = 0, of: torch.dtype = torch.float32) -> bool:
    """Whether the loops compiled by numba run: FP32 (or `of`) on a CPU, gradients off, few tokens, and no reference.

    One loop passes once over what torch passes over with every operation, and is one call where torch makes ten.
    `tokens` is given by operations whose products torch does better for many tokens.
    """
    if tokens > _FEW or torch.is_grad_enabled() or x.dtype != of or not x.is_cpu:
        return False
    return x.numel() > 0 and _BODY.get() is Body.FAST


_Function = TypeVar("_Function", bound=Callable[..., Any])
_SHAPES = 64  # shapes that one function is compiled for: row lengths times widths


def fusable(function: _Function) -> _Function:
    """Compile `function` (first argument a tensor) where `trains_on_gpu`; anywhere else it runs as written.

    Shapes are static: training has few, and decoding, which has many, never compiles.
    """
    compiled: Callable[..., Any] | None = None

    @functools.wraps(function)
    def call(x: Tensor, *args: Any, **kwargs: Any) -> Any:
        nonlocal compiled
        if torch.compiler.is_compiling() or not trains_on_gpu(x):
            return function(x, *args, **kwargs)
        if compiled is None:
            from torch._dynamo import config

            config.recompile_limit = max(config.recompile_limit, _SHAPES)
            compiled = torch.compile(function, dynamic=False)
        return compiled(x, *args, **kwargs)

    return call  # pyright: ignore[reportReturnType]
