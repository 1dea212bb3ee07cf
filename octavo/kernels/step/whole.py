"""A whole layer of a step over a sequence in the cache, as compiled code takes it: the structure `Step` of whole.h.

Covers: the structure, what it is made of, and the two calls. Does not cover: which rows and weights these are
(`octavo.model.step`), what the halves compute (whole.h).
"""

from __future__ import annotations

import ctypes
from enum import IntEnum

from octavo.kernels import native

_INT, _LONG, _FLOAT, _AT = ctypes.c_int32, ctypes.c_int64, ctypes.c_float, ctypes.c_void_p


class Sight(IntEnum):
    """Which entries a layer's queries see."""

    WINDOW = 0
    EVERY = 1
    BEST = 2


class Store(ctypes.Structure):
    """`Store` of whole.h: stretches of entries."""

    _fields_ = [("count", _LONG), ("starts", _AT), ("rows", _AT), ("places", _AT)]


class Step(ctypes.Structure):
    """`Step` of whole.h; addresses are those of FP32 rows unless named otherwise there, None for what a layer lacks."""

    _fields_ = [
        *[(name, _AT) for name in ("layer", "streams", "cosine", "sine")],
        *[(name, _AT) for name in ("frequencies", "out", "room", "window_rows", "raw", "index_raw", "mass", "picked")],
        ("table_rows", _AT),
        *[(name, Store) for name in ("main", "index", "coarse")],
        *[(name, _AT) for name in ("select", "run")],
        *[(name, _LONG) for name in ("first", "block", "mass_apart")],
        *[(name, _INT) for name in ("tokens", "threads", "past", "window", "sight", "level", "picks", "best")],
        ("scale", _FLOAT),
        ("offset", _FLOAT),
    ]

    def first_half(self) -> None:
        """From streams to queries, new rows, and the entries that they complete."""
        native.called().octavo_step_first_half(ctypes.addressof(self))

    def second_half(self) -> None:
        """From queries to the streams behind the layer."""
        native.called().octavo_step_second_half(ctypes.addressof(self))
