"""A tiny random model on disk, found by name as the shipped one is, and a text to read."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.tiny import tiny_config, write_tiny_model
from tests.support.tiny_llm import STORY


@pytest.fixture(scope="session")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of random models of one shape: octavo-xs, octavo-other, and octavo-long with more context."""
    folder = tmp_path_factory.mktemp("shelf")
    write_tiny_model(folder / "octavo-long", tiny_config(max_position_embeddings=65_536), 1)
    for seed, name in enumerate(("octavo-xs", "octavo-other"), start=1):
        write_tiny_model(folder / name, tiny_config(max_position_embeddings=4096), seed)
    return folder


@pytest.fixture
def story(tmp_path: Path, shelf: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A text of about 700 tokens; the tiny models are on the shelf, and the text's folder is the working directory."""
    monkeypatch.setenv("OCTAVO_WEIGHTS", str(shelf))
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "story.txt"
    path.write_text("\n".join(STORY.replace("heron", f"heron{n}") for n in range(4)), encoding="utf-8")
    return path
