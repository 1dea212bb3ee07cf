"""Whole layers of a step over a sequence in the cache, as compiled code takes them: the structure `Step` of whole.h.

Covers: the structure, what it is made of, and `Layers`, which runs it for one layer or for several in one call. Does
not cover: which rows and weights these are (`octavo.model.step`), what the halves compute (whole.h).
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


class Recall(ctypes.Structure):
    """`Recall` of whole.h; ids and the numbers of the hash are int64."""

    _fields_ = [
        *[(name, _AT) for name in ("before", "tokens", "smaller", "multipliers", "moduli", "offsets")],
        *[(name, _AT) for name in ("table", "memory", "weight", "query_gain", "key_gain", "recalled")],
        ("pad", _LONG),
        *[(name, _INT) for name in ("known", "ngram", "heads", "row", "numbers", "padding")],
    ]


class Step(ctypes.Structure):
    """`Step` of whole.h; addresses are those of FP32 rows unless named otherwise there, None for what a layer lacks."""

    _fields_ = [
        *[(name, _AT) for name in ("layer", "streams", "cosine", "sine")],
        ("memory", _AT),
        *[(name, _AT) for name in ("frequencies", "out", "room", "window_rows", "raw", "index_raw", "mass", "picked")],
        ("table_rows", _AT),
        *[(name, Store) for name in ("main", "index", "coarse")],
        *[(name, _AT) for name in ("select", "run")],
        *[(name, _LONG) for name in ("first", "block", "mass_apart")],
        *[(name, _INT) for name in ("tokens", "threads", "past", "window", "sight", "level", "picks", "best")],
        ("scale", _FLOAT),
        ("offset", _FLOAT),
    ]


class Layers:
    """Layers that follow one another, each with two halves: from streams to queries, new rows and the entries that they
    complete; from queries to the streams behind the layer."""

    def __init__(self, *calls: Step) -> None:
        self.calls = calls  # held: the addresses are theirs
        self._at = (_AT * len(calls))(*[ctypes.addressof(call) for call in calls])
        self._address = ctypes.addressof(self._at)

    def halves(self, begin: int, end: int) -> None:
        """Halves begin .. end - 1; half 2 i is the first one of layer i."""
        native.called().octavo_step_halves(self._address, begin, end)
