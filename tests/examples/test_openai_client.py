"""The OpenAI example against a real server of a tiny model."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from octavo.server.settings import ServerSettings
from tests.support.serving import serving

PATH = Path(__file__).resolve().parents[2] / "examples" / "openai_client.py"


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("openai_client", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_runs(
    example: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OCTAVO_API_KEY", "a-key")
    settings = ServerSettings(served_name="tiny", api_keys=("a-key",))
    with serving(tmp_path, settings) as (url, _):
        assert example.main(["--url", url, "Hi there"]) == 0
    out = capsys.readouterr().out
    assert "-- chat with tiny" in out
    assert " tokens read, " in out
    last = out.rstrip().splitlines()[-1]
    assert last in ("{'short': True}", "{'short': False}", "{}")
