"""Compiles the index scan for the processor when the package is built, where there is a C++ compiler.

Without one, or where compiling fails, the package is built without it and says so: its own numba loop gives the same
results. The library has no Python in it; it chooses among instruction sets when it is loaded.
"""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCE = Path("octavo/kernels/index_topk/scan.cpp")
LIBRARY = SOURCE.with_name("_scan.so")
FLAGS = ("-O3", "-std=c++17", "-fPIC", "-shared", "-fno-math-errno", "-fno-trapping-math")
COMPILERS = ("c++", "g++", "clang++")


class ScanBuildHook(BuildHookInterface):
    """Adds the compiled scan to wheels and editable installs."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile; what was built goes into the wheel, which is then for this kind of machine alone."""
        if self.target_name != "wheel" or not self._compiled():
            return
        build_data["artifacts"].append(LIBRARY.as_posix())
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"

    def _compiled(self) -> bool:
        out = Path(self.root) / LIBRARY
        out.unlink(missing_ok=True)
        if platform.machine().lower() not in ("x86_64", "amd64") or os.name != "posix":
            return self._without(f"no scan for {platform.machine()} on {os.name}")
        named = shlex.split(os.environ.get("CXX", ""))
        found = named or [path for name in COMPILERS if (path := shutil.which(name))][:1]
        if not found:
            return self._without("no C++ compiler was found")
        line = [*found, *FLAGS, "-o", str(out), str(Path(self.root) / SOURCE)]
        try:
            run = subprocess.run(line, capture_output=True, text=True, check=False)
        except OSError as error:
            return self._without(str(error))
        if run.returncode:
            out.unlink(missing_ok=True)
            return self._without(f"{' '.join(line)}: {run.stderr[-2000:]}")
        return True

    def _without(self, reason: str) -> bool:
        print(f"octavo: the index scan is not compiled, numba's loop will serve: {reason}", file=sys.stderr)
        return False
