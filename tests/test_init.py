"""The public names of the package: resolved late, complete, and nothing else."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import octavo


@pytest.mark.parametrize(
    ("public", "home"),
    [
        ("load", "octavo.engine.llm"),
        ("plan", "octavo.engine.plan"),
        ("ModelConfig", "octavo.config.model"),
        ("__version__", "octavo.version"),
    ],
)
def test_public_name_is_the_object_of_its_home(public: str, home: str) -> None:
    assert getattr(octavo, public) is getattr(importlib.import_module(home), public)
    assert public in dir(octavo)


def test_unknown_name_is_an_attribute_error_that_names_it() -> None:
    with pytest.raises(AttributeError, match="no attribute 'laod'"):
        octavo.laod  # noqa: B018


def test_package_is_marked_as_typed() -> None:
    assert Path(octavo.__file__).with_name("py.typed").is_file()


def test_constraints_pin_every_dependency_within_the_declared_range() -> None:
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    root = Path(__file__).resolve().parent.parent
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    lines = [line for line in (root / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    pins = {canonicalize_name(line.split("==")[0]): line.split("==")[1] for line in lines}
    wanted = [*project["dependencies"], *(d for extra in project["optional-dependencies"].values() for d in extra)]
    for requirement in map(Requirement, wanted):
        assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)]), requirement


def test_idle_threads_spin_briefly_unless_the_environment_says_so() -> None:
    code = "import os, octavo; print(os.environ.get('GOMP_SPINCOUNT'))"
    plain = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    cases: dict[str, dict[str, str]] = {"3000": {}, "7": {"GOMP_SPINCOUNT": "7"}, "None": {"OMP_WAIT_POLICY": "active"}}
    for expected, given in cases.items():
        command = [sys.executable, "-c", code]
        ran = subprocess.run(command, env=plain | given, capture_output=True, text=True, check=True)
        assert ran.stdout.strip() == expected
