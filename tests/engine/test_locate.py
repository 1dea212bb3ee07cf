"""Finding a model: names, folders, hub ids, and the messages when there is none."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from octavo.config.errors import CheckpointError
from octavo.engine.locate import locate, shipped


def make(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    return folder


def test_shipped_name_is_found_on_the_shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make(tmp_path / "octavo-test")
    monkeypatch.setenv("OCTAVO_WEIGHTS", str(tmp_path))
    assert locate("octavo-test") == folder
    assert shipped()["octavo-test"] == folder


def test_shelf_wins_over_the_working_directory_unless_the_folder_is_spelled_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make(tmp_path / "shelf" / "octavo-test")
    make(tmp_path / "here" / "octavo-test")
    monkeypatch.setenv("OCTAVO_WEIGHTS", str(tmp_path / "shelf"))
    monkeypatch.chdir(tmp_path / "here")
    assert locate("octavo-test") == folder
    assert locate("./octavo-test").resolve() == tmp_path / "here" / "octavo-test"


def test_folder_is_itself(tmp_path: Path) -> None:
    assert locate(tmp_path) == tmp_path


def test_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"")
    with pytest.raises(CheckpointError, match="is a file"):
        locate(path)


def test_unknown_name_lists_what_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path / "octavo-test")
    monkeypatch.setenv("OCTAVO_WEIGHTS", str(tmp_path))
    with pytest.raises(CheckpointError, match=r"unknown model 'octavo-tset'.*octavo-test"):
        locate("octavo-tset")


def test_missing_path_is_not_taken_for_a_hub_id() -> None:
    with pytest.raises(CheckpointError, match="unknown model './no/such/folder'"):
        locate("./no/such/folder")


def test_hub_id_without_network_or_cache_says_so(tmp_path: Path) -> None:
    # The hub client reads its switches when it is imported, so this needs a process of its own.
    code = "from octavo.engine.locate import locate\nlocate('someone/some-model')"
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    run = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert "CheckpointError: model 'someone/some-model' is no folder here" in run.stderr
    assert "cannot be reached" in run.stderr


def test_hub_id_in_the_local_cache_is_used(tmp_path: Path) -> None:
    commit = "0" * 40
    repo = tmp_path / "hub" / "models--someone--some-model"
    snapshot = make(repo / "snapshots" / commit)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(commit)
    code = "from octavo.engine.locate import locate\nprint(locate('someone/some-model'))"
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    env.pop("HF_HUB_CACHE", None)
    run = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert Path(run.stdout.strip()) == snapshot
