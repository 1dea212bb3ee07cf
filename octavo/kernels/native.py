"""The compiled loops of a decoding step (`octavo/kernels/step`): found, loaded, described.

Covers: which of the libraries that the package's build made runs on this processor, the signatures of their functions,
whether they serve a call, what runs in words. Does not cover: what the functions do (the operations say it), the index
scan (`octavo.kernels.index_topk.scan`), machines without library or processor (numba's loops serve there).
"""

from __future__ import annotations

import ctypes
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from octavo.kernels import dispatch

FOLDER = Path(__file__).with_name("step")
LEVELS = {"AVX512": "C++, AVX-512", "AVX2": "C++, AVX2"}  # by the beginning of what torch says of the processor
_FILES = {"C++, AVX-512": "_step_avx512.so", "C++, AVX2": "_step_avx2.so"}
_INT, _LONG, _FLOAT, _AT = ctypes.c_int, ctypes.c_int64, ctypes.c_float, ctypes.c_void_p
_SIGNATURES = {
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
    "octavo_step_first_half": [_AT],
    "octavo_step_second_half": [_AT],
    "octavo_step_entry": [*[_INT] * 7, _LONG, _FLOAT, *[_AT] * 4],
}


def level() -> str | None:
    """The level of `LEVELS` that this processor has, None for none of them."""
    capability = torch.backends.cpu.get_cpu_capability()
    return next((name for key, name in LEVELS.items() if capability.startswith(key)), None)


@lru_cache(maxsize=2)
def load(name: str) -> ctypes.CDLL | None:
    """The library of a level of `LEVELS`, None where the build did not make it. The processor must have that level."""
    path = FOLDER / _FILES[name]
    if not path.is_file():
        return None
    loaded = ctypes.CDLL(str(path))
    for function, arguments in _SIGNATURES.items():
        called = getattr(loaded, function)
        called.argtypes, called.restype = arguments, None
    return loaded


@lru_cache(maxsize=1)
def library() -> ctypes.CDLL | None:
    """What runs on this machine; None: numba's loops."""
    name = level()
    return None if name is None else load(name)


def called() -> ctypes.CDLL:
    """`library` where it must be there: `serves` comes first."""
    found = library()
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
    """One sentence: which loops decode on this machine, and why where they are not the compiled ones."""
    name = level()
    if library() is not None:
        return f"decoding: compiled ({name})"
    if name is None:
        return "decoding: numba's loops (this processor has no AVX2)"
    return "decoding: numba's loops (this installation was built without a C++ compiler)"
