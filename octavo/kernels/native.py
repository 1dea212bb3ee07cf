"""Libraries that the package's build compiled once for each set of instructions: found, loaded, described.

Covers: the loops of a decoding step (`octavo/kernels/step`), those of a chunk (`octavo/kernels/chunk`) and attention of
many queries (`octavo/kernels/sparse_attention`): which of a library's files runs on this processor, the signatures of
its functions, whether it serves a call, what runs in words. Does not cover: what the functions do (the operations say
it), the index scan (`octavo.kernels.index_topk.scan`), machines without library or processor (numba's loops serve
there).
"""

from __future__ import annotations

import ctypes
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from octavo.kernels import dispatch

FOLDER = Path(__file__).parent
STEP, MANY, CHUNK = "step/_step", "sparse_attention/_many", "chunk/_chunk"  # libraries, by the beginning of their files
LEVELS = {"AVX512": "C++, AVX-512", "AVX2": "C++, AVX2"}  # by the beginning of what torch says of the processor
_ENDS = {"C++, AVX-512": "_avx512.so", "C++, AVX2": "_avx2.so"}
_INT, _LONG, _FLOAT, _AT = ctypes.c_int, ctypes.c_int64, ctypes.c_float, ctypes.c_void_p
_OF_STEP = {
    "octavo_step_enter": [_INT, _AT, _INT, _LONG, *[_AT] * 10],
    "octavo_step_cross": [_INT, _AT, _INT, *[_AT] * 8],
    "octavo_step_mix": [_INT, _AT, _INT, *[_AT] * 5],
    "octavo_step_write": [*[_INT] * 3, *[_AT] * 4],
    "octavo_step_head": [*[_INT] * 5, _FLOAT, _FLOAT, *[_AT] * 7],
    "octavo_step_products": [*[_INT] * 4, *[_AT] * 4],
    "octavo_step_grouped": [*[_INT] * 5, *[_AT] * 3],
    "octavo_step_choose": [*[_INT] * 4, _FLOAT, _AT, _INT, *[_AT] * 3],
    "octavo_step_expert": [*[_INT] * 3, _FLOAT, _FLOAT, *[_AT] * 5],
    "octavo_step_expert_fp4": [*[_INT] * 3, _FLOAT, _FLOAT, *[_AT] * 10],
    "octavo_step_attend": [_INT, *[_AT] * 4],
    "octavo_step_recall": [*[_INT] * 3, _FLOAT, *[_AT] * 5],
    "octavo_step_halves": [_AT, _INT, _INT],
    "octavo_step_together": [_AT],
    "octavo_step_entry": [*[_INT] * 7, _LONG, _FLOAT, *[_AT] * 4],
}
_OF_CHUNK = {
    "octavo_chunk_enter": [_INT, _AT, _AT, _INT, _LONG, *[_AT] * 10],
    "octavo_chunk_cross": [_INT, _AT, _AT, _INT, *[_AT] * 8],
    "octavo_chunk_mix": [_INT, _AT, _AT, _INT, *[_AT] * 4],
    "octavo_chunk_write": [_INT, _AT, *[_INT] * 3, *[_AT] * 3],
    "octavo_chunk_hidden": [_INT, _AT, *[_INT] * 3, _FLOAT, *[_AT] * 6],
    "octavo_chunk_linear": [_INT, _AT, *[_INT] * 3, *[_AT] * 3],
    "octavo_chunk_sums": [_INT, _AT, *[_INT] * 3, *[_AT] * 3],
    "octavo_chunk_recall": [_INT, _AT, *[_INT] * 4, _FLOAT, *[_AT] * 6],
}
_SIGNATURES = {
    STEP: _OF_STEP, MANY: {"octavo_many_attend": [_AT, _INT, _INT, _AT, _AT]}, CHUNK: _OF_CHUNK,
}  # fmt: skip


def level() -> str | None:
    """The level of `LEVELS` that this processor has, None for none of them."""
    capability = torch.backends.cpu.get_cpu_capability()
    return next((name for key, name in LEVELS.items() if capability.startswith(key)), None)


@lru_cache(maxsize=6)
def load(name: str, which: str = STEP) -> ctypes.CDLL | None:
    """A library for a level of `LEVELS`, None where the build did not make it. The processor must have that level."""
    path = FOLDER / (which + _ENDS[name])
    if not path.is_file():
        return None
    loaded = ctypes.CDLL(str(path))
    for function, arguments in _SIGNATURES[which].items():
        called = getattr(loaded, function)
        called.argtypes, called.restype = arguments, None
    return loaded


@lru_cache(maxsize=3)
def library(which: str = STEP) -> ctypes.CDLL | None:
    """What runs on this machine; None: numba's loops."""
    name = level()
    return None if name is None else load(name, which)


def called(which: str = STEP) -> ctypes.CDLL:
    """`library` where it must be there: that it serves is asked first."""
    found = library(which)
    assert found is not None, "there is no compiled code"
    return found


@lru_cache(maxsize=2)
def run_address(loaded: ctypes.CDLL) -> int:
    """The address of the function that shares out loops among threads, for other libraries."""
    return ctypes.cast(loaded.octavo_step_run, ctypes.c_void_p).value or 0


def serves(x: Tensor, tokens: int) -> bool:
    """Whether the library serves a call with the input x of so many tokens: FP32 on the CPU without gradients, a
    handful, and no reference run."""
    return dispatch.loops_on_cpu(x, tokens=tokens) and library() is not None


def running() -> str:
    """What decodes, reads, and attends while reading on this machine, and why where it is not the compiled code."""
    works = ("decoding", STEP), ("reading", CHUNK), ("attention in reading", MANY)
    return ", ".join(f"{work}: {_body(which)}" for work, which in works)


def _body(which: str) -> str:
    name = level()
    if library(which) is not None:
        return f"compiled ({name})"
    if name is None:
        return "numba's loops (this processor has no AVX2)"
    return "numba's loops (this installation was built without a C++ compiler)"
