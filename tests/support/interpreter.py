"""Triton's interpreter, which runs the kernels where there is no GPU, without most of its own cost."""

from __future__ import annotations

import functools
import inspect
from typing import Any


def search_once() -> None:
    """Search each namespace of `triton.language` for its builtins once a process.

    The interpreter does so at every launch and at every call of a device function, for half of its time. What it
    replaces and when it restores that stays as it is.
    """
    from triton.language.core import is_builtin
    from triton.runtime import interpreter

    @functools.cache
    def builtins_of(namespace: Any) -> list[tuple[str, Any]]:
        return [(name, member) for name, member in inspect.getmembers(namespace) if is_builtin(member)]

    def patch(namespace: Any, *rest: Any) -> None:
        for name, member in builtins_of(namespace):
            if getattr(namespace, name) is member:
                interpreter._patch_attr(namespace, name, member, *rest)

    assert callable(interpreter._patch_builtin)
    interpreter._patch_builtin = patch
