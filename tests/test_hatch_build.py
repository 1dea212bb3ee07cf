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
    (root / module.SOURCE).parent.mkdir(parents=True)
    shutil.copy(ROOT / module.SOURCE, root / module.SOURCE)
    data: dict[str, Any] = {"artifacts": [], "pure_python": True}
    hook = module.ScanBuildHook(str(root), {}, None, None, str(root), "wheel")
    hook.initialize("standard", data)
    return module, data


@pytest.mark.skipif(sys.platform != "linux" or shutil.which("c++") is None, reason="needs Linux and a C++ compiler")
def test_the_library_loads_and_the_wheel_is_for_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CXX", raising=False)
    module, data = _built(tmp_path)
    assert data["artifacts"] == [module.LIBRARY.as_posix()]
    assert not data["pure_python"]
    assert data["tag"].startswith("py3-none-linux_")
    assert ctypes.CDLL(str(tmp_path / module.LIBRARY)).octavo_scan_level() in (0, 1, 2)


@pytest.mark.parametrize("compiler", ["/nowhere/c++", "false"])
def test_without_a_compiler_the_package_is_built_without(
    compiler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CXX", compiler)
    module, data = _built(tmp_path)
    assert data == {"artifacts": [], "pure_python": True}
    assert not (tmp_path / module.LIBRARY).exists()
    assert "not compiled" in capsys.readouterr().err
