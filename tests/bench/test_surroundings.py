"""Where a measurement was made: commit, versions, and a GPU's state from a program that is made up."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from octavo.bench.surroundings import commit, gpu, surroundings
from octavo.version import __version__


def test_surroundings_name_machine_commit_and_versions() -> None:
    found = surroundings(("torch", "octavo", "no-such-package"))
    assert {"date", "commit", "changed", "device", "cores", "threads", "load_before", "cpu_capability"} <= set(found)
    assert found["versions"]["octavo"] == __version__
    assert found["versions"]["no-such-package"] is None
    assert found["device"].startswith("CPU ")


def git(folder: Path, *line: str) -> None:
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", *who, *line], cwd=folder, check=True, capture_output=True)


def test_commit_of_a_checkout_and_whether_it_was_changed(tmp_path: Path) -> None:
    (tmp_path / "octavo").mkdir()
    (tmp_path / "octavo" / "version.py").write_text("one", encoding="utf-8")
    git(tmp_path, "init")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "first")
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=tmp_path, check=True, capture_output=True, text=True)
    (tmp_path / "notes.txt").write_text("no code", encoding="utf-8")
    assert commit(tmp_path) == {"commit": head.stdout.strip(), "changed": False}
    (tmp_path / "octavo" / "version.py").write_text("two", encoding="utf-8")
    assert commit(tmp_path)["changed"] is True


def test_a_copy_without_git_or_inside_another_checkout_is_told_its_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(tmp_path, "init")  # another project's checkout
    monkeypatch.delenv("OCTAVO_COMMIT", raising=False)
    assert commit(tmp_path) == {"commit": None, "changed": None}
    monkeypatch.setenv("OCTAVO_COMMIT", "abc")
    assert commit(tmp_path) == {"commit": "abc", "changed": None}


def program(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    path = folder / "nvidia-smi"
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_state_of_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, monkeypatch, "echo 'Big GPU, 580.1, 81559, 1980, 2619, [N/A], 41, 0x0000000000000000'")
    assert gpu() == {
        "device": "Big GPU", "driver": "580.1", "memory_mib": 81559.0, "sm_mhz": 1980.0, "memory_mhz": 2619.0,
        "watts": None, "celsius": 41.0, "clock_limits": "0x0000000000000000",
    }  # fmt: skip


def test_a_program_that_fails_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, monkeypatch, "echo 'Field is not\nvalid' >&2; exit 2")
    assert gpu() == {"message": "Field is not valid"}


def test_no_program_no_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpu() is None
