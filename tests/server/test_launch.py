"""From flags and a file to a server about to start; nothing is loaded here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from octavo.config.errors import LimitError, OctavoError, UsageError
from octavo.server.launch import Launch
from tests.support.tiny import tiny_config, write_tiny_model


@pytest.fixture
def model(tmp_path: Path) -> str:
    write_tiny_model(tmp_path / "octavo-tiny", tiny_config(max_position_embeddings=4096), 1)
    return str(tmp_path / "octavo-tiny")


def launch(model: str, *, file: str | None = None, device: str = "cpu", **flags: Any) -> Launch:
    return Launch.of(model, flags, key_file=None, file=file, device=device, weights=None)


def test_flags_win_over_the_file(model: str, tmp_path: Path) -> None:
    file = tmp_path / "serve.toml"
    file.write_text('port = 9000\nmax_running = 3\naliases = ["gpt"]\nlog_level = "warning"\nindex_levels = 2\n')
    found = launch(model, file=str(file), port=9001, host=None, documents=str(tmp_path), cache="64MiB")
    assert (found.settings.port, found.settings.max_running, found.settings.aliases) == (9001, 3, ("gpt",))
    assert (found.log_level, found.index_levels) == ("warning", 2)
    assert found.settings.documents_folder == tmp_path
    assert found.settings.cache_bytes == 64 * 2**20


def test_what_is_held_is_known_before_loading(model: str) -> None:
    held = launch(model, cache="64MiB", served_name="tiny").holding
    stored = sum(path.stat().st_size for path in Path(model).glob("*.safetensors"))
    assert 0.5 * stored <= held.weight_bytes <= 2.1 * stored
    assert held.cache_bytes == 64 * 2**20
    assert held.cache_tokens % 256 == 0
    assert held.cache_tokens > 4096
    assert (held.model, held.context, held.documents) == ("tiny", 4096, None)
    assert launch(model).holding.cache_bytes <= held.free_bytes


def test_memory_of_a_gpu_is_asked_of_the_gpu(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("octavo.server.launch.free_memory", lambda device: 2**30 if device == "cpu" else 2**28)
    made = launch(model, device="cuda:1")
    held = made.holding
    assert (held.free_bytes, held.weights) == (2**28, "bf16")
    assert held.cache_bytes == (2**28 - held.weight_bytes) // 2
    assert made._placed() == {
        "device": "cuda:1", "dtype": "bfloat16", "chunk": 1024, "capacity_tokens": held.cache_tokens,
    }  # fmt: skip
    flags = {"documents": str(tmp_path)}
    with pytest.raises(UsageError, match="cache is not given; what GPUs of replicas have free"):
        Launch.of(model, flags, key_file=None, file=None, device="cuda", weights=None, ray=True)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_cache_without_a_page_is_refused_before_loading(
    model: str, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("octavo.server.launch.free_memory", lambda device: 2**28)
    with pytest.raises(LimitError, match=r"cache_bytes is 1,000; one page of this model takes \d"):
        launch(model, device=device, cache=1000)
    page = launch(model, device=device).holding
    least = page.cache_bytes // (page.cache_tokens // 256)
    assert launch(model, device=device, cache=least).holding.cache_tokens == 256
    monkeypatch.setattr("octavo.server.launch.free_memory", lambda device: 5000)
    with pytest.raises(LimitError, match="cache_bytes is not given, and of 5,000 free bytes"):
        launch(model, device=device)


def test_workers_hold_their_shares(model: str, tmp_path: Path) -> None:
    file = tmp_path / "serve.toml"
    file.write_text("workers = 2\n")
    one, two = launch(model, cache="64MiB").holding, launch(model, file=str(file), cache="64MiB").holding
    assert (one.workers, two.workers) == (1, 2)
    assert 0.5 * one.weight_bytes < two.weight_bytes < one.weight_bytes
    file.write_text("workers = 3\n")
    with pytest.raises(UsageError, match="workers is 3"):
        launch(model, file=str(file))
    file.write_text("workers = 2\n")
    flags = {"documents": str(tmp_path)}
    with pytest.raises(UsageError, match="workers is 2; each replica holds a whole model"):
        Launch.of(model, flags, key_file=None, file=str(file), device="cpu", weights=None, ray=True)


def test_keys_come_from_the_environment(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCTAVO_API_KEY", "hush")
    found = launch(model, host="0.0.0.0")
    assert found.settings.api_keys == ("hush",)
    assert "hush" not in repr(found)
    monkeypatch.delenv("OCTAVO_API_KEY")
    with pytest.raises(UsageError, match="no api key"):
        launch(model, host="0.0.0.0")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("port = ", "is not TOML"),
        ("log_level = 'loud'", "log_level is 'loud'"),
        ("index_levels = 3", "index_levels is 3"),
        ("rate = 3", "no server setting 'rate'"),
        ("api_keys = ['x']", "no server setting 'api_keys'"),
    ],
)
def test_bad_files(model: str, tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "serve.toml"
    file.write_text(text)
    with pytest.raises(UsageError, match=message):
        launch(model, file=str(file))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"file": "/none.toml"}, "cannot be read"),
        ({"device": "tpu"}, "device is 'tpu'"),
        ({"cache": "lots"}, "cache is 'lots'"),
        ({"port": 70000}, "port is 70000"),
    ],
)
def test_bad_flags(model: str, flags: dict[str, Any], message: str) -> None:
    with pytest.raises(OctavoError, match=message):
        launch(model, **flags)
