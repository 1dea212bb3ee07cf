"""The build hook: what it compiles loads, and a machine without a compiler gets a package without it, and a line."""

from __future__ import annotations

import ctypes
import importlib.util
import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytest.importorskip("hatchling")

ROOT = Path(__file__).resolve().parent.parent


def _module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _built(root: Path) -> tuple[ModuleType, dict[str, Any]]:
    module = _module()
    for source in {library.source for library in module.LIBRARIES}:
        (root / source).parent.mkdir(parents=True, exist_ok=True)
        for file in [path for kind in ("*.cpp", "*.h", "*.cu", "*.cuh") for path in (ROOT / source).parent.glob(kind)]:
            shutil.copy(file, root / source.parent / file.name)
    data: dict[str, Any] = {"artifacts": [], "pure_python": True}
    hook = module.CompileHook(str(root), {}, None, None, str(root), "wheel")
    hook.initialize("standard", data)
    return module, data


@pytest.mark.skipif(sys.platform != "linux" or shutil.which("c++") is None, reason="needs Linux and a C++ compiler")
def test_the_libraries_load_and_the_wheel_is_for_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("CXXFLAGS", "-O1")  # what is loaded is looked at, not run: a third of the time
    monkeypatch.setenv("NVCC", "false")  # whether CUDA's compiler is there is another question
    module, data = _built(tmp_path)
    made = [library for library in module.LIBRARIES if library.compiler is module.CPP]
    assert data["artifacts"] == [library.path.as_posix() for library in made]
    assert not data["pure_python"]
    assert data["tag"].startswith("py3-none-linux_")
    loaded = {library.path.name: ctypes.CDLL(str(tmp_path / library.path)) for library in made}
    assert loaded.pop("_scan.so").octavo_scan_level() in (0, 1, 2)
    functions = {"_step": "octavo_step_enter", "_many": "octavo_many_attend", "_chunk": "octavo_chunk_enter"}
    for name, function in functions.items():
        assert all(hasattr(loaded.pop(f"{name}_{level}.so"), function) for level in module.LEVELS)
    assert loaded == {}


@pytest.mark.parametrize("compiler", ["/nowhere/c++", "false"])
def test_without_a_compiler_the_package_is_built_without(
    compiler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CXX", compiler)
    monkeypatch.setenv("NVCC", compiler)
    module, data = _built(tmp_path)
    assert data == {"artifacts": [], "pure_python": True}
    assert not any((tmp_path / library.path).exists() for library in module.LIBRARIES)
    assert "not compiled" in capsys.readouterr().err


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="needs CUDA's compiler")
def test_attention_for_hopper_compiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NVCC", raising=False)
    module, data = _built(tmp_path)
    assert module.ATTEND.with_name("_attend_sm90.so").as_posix() in data["artifacts"]
