"""Compiles the index scan, the loops of a decoding step, those of a chunk and attention of many queries when the
package is built, where there is a C++ compiler, and attention for Hopper GPUs where there is CUDA's.

Without one, or where compiling fails, the package is built without them and says so: its own numba loops and Triton
kernels serve then. The libraries have no Python in them. The scan chooses among instruction sets when it is loaded; the
others in C++ are compiled once for each, and Python loads the one that the processor has.
"""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class Compiler(NamedTuple):
    """A kind of compiler: the variable that names one (with FLAGS behind it: further flags), the commands looked for
    else, flags, who serves without it."""

    name: str
    variable: str
    commands: tuple[str, ...]
    flags: tuple[str, ...]
    instead: str


class Library(NamedTuple):
    """A shared library, what it is made of, and the instructions that all of it may use."""

    path: Path
    source: Path
    compiler: Compiler
    flags: tuple[str, ...] = ()


CPP = Compiler(
    "C++", "CXX", ("c++", "g++", "clang++"),
    ("-O3", "-std=c++17", "-fPIC", "-shared", "-pthread", "-fno-math-errno", "-fno-trapping-math",
     "-ffp-contract=fast"),
    "numba's loops will serve",
)  # fmt: skip
CUDA = Compiler(
    "CUDA", "NVCC", ("nvcc", "/usr/local/cuda/bin/nvcc"),
    ("-gencode=arch=compute_90a,code=sm_90a", "-O3", "-std=c++17", "-Xcompiler=-fPIC", "-shared"),
    "Triton's kernels will serve",
)  # fmt: skip
SCAN, STEP = Path("octavo/kernels/index_topk/scan.cpp"), Path("octavo/kernels/step/step.cpp")
CHUNK = Path("octavo/kernels/chunk/chunk.cpp")
MANY, ATTEND = (Path("octavo/kernels/sparse_attention") / name for name in ("many.cpp", "attend_sm90.cu"))
LEVELS = {
    "avx2": ("-mavx2", "-mfma"),
    "avx512": ("-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mfma"),
}
LIBRARIES = (
    Library(SCAN.with_name("_scan.so"), SCAN, CPP),
    *(
        Library(source.with_name(f"_{source.stem}_{level}.so"), source, CPP, flags)
        for source in (STEP, CHUNK, MANY) for level, flags in LEVELS.items()
    ),
    Library(ATTEND.with_name("_attend_sm90.so"), ATTEND, CUDA),
)  # fmt: skip


class CompileHook(BuildHookInterface):
    """Adds the compiled libraries to wheels and editable installs."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile; what was built goes into the wheel, which is then for this kind of machine alone."""
        if self.target_name != "wheel":
            return
        for library in LIBRARIES:
            (Path(self.root) / library.path).unlink(missing_ok=True)
        if platform.machine().lower() not in ("x86_64", "amd64") or os.name != "posix":
            _say(f"nothing is compiled for {platform.machine()} on {os.name}; {CPP.instead}, {CUDA.instead}")
            return
        found = {kind: self._command(kind) for kind in (CPP, CUDA)}
        with ThreadPoolExecutor(os.cpu_count() or 1) as threads:  # each waits for a compiler
            done = threads.map(lambda library: self._compiled(found[library.compiler], library), LIBRARIES)
            made = [library for library, well in zip(LIBRARIES, done, strict=True) if well]
        if made:
            build_data["artifacts"] += [library.path.as_posix() for library in made]
            build_data["pure_python"] = False
            build_data["tag"] = f"py3-none-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"

    def _command(self, kind: Compiler) -> list[str]:
        """The compiler's command, empty where there is none."""
        named = shlex.split(os.environ.get(kind.variable, ""))
        found = named or [path for name in kind.commands if (path := shutil.which(name))][:1]
        if not found:
            _say(f"no compiler for {kind.name} was found; {kind.instead}")
        return found

    def _compiled(self, command: list[str], library: Library) -> bool:
        if not command:
            return False
        out, source, kind = Path(self.root) / library.path, Path(self.root) / library.source, library.compiler
        more = shlex.split(os.environ.get(f"{kind.variable}FLAGS", ""))
        line = [*command, *kind.flags, *library.flags, *more, "-o", str(out), str(source)]
        try:
            run = subprocess.run(line, capture_output=True, text=True, check=False)
        except OSError as error:
            _say(f"{error}; {kind.instead}")
            return False
        if run.returncode:
            out.unlink(missing_ok=True)
            _say(f"{kind.instead}: {' '.join(line)}: {run.stderr[-2000:]}")
        return run.returncode == 0


def _say(reason: str) -> None:
    print(f"octavo: not compiled: {reason}", file=sys.stderr)
