"""Octavo reads a long text once, folds it into a small cache, and answers questions from it.

Covers the public names only, each resolved on first use, so that `import octavo` loads neither torch nor the model:
`load(path_or_name, dtype="float32") -> LLM`, `plan(config, context, hardware) -> Plan`, `ModelConfig`, `__version__`.
Everything else is imported from the package it lives in.

It also sets how long OpenMP's idle threads spin, unless the environment says so: read when torch loads, and with the
default a busy neighbour on two cores can make reading tens of times slower (docs/decisions/0009-spinning.md).
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from octavo.config.model import ModelConfig
    from octavo.engine.llm import load
    from octavo.engine.plan import plan
    from octavo.version import __version__

if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")

__all__ = ["ModelConfig", "__version__", "load", "plan"]

_HOME = {
    "load": "octavo.engine.llm",
    "plan": "octavo.engine.plan",
    "ModelConfig": "octavo.config.model",
    "__version__": "octavo.version",
}


def __getattr__(name: str) -> Any:
    """Import the public name `name` from its home; `AttributeError` for any other."""
    if name not in _HOME:
        raise AttributeError(f"module 'octavo' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    """The public names, for completion."""
    return sorted(__all__)
