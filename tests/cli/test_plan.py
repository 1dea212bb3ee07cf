"""`octavo plan`: the numbers of the planner on stdout, every way to name a model, bad contexts and names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from octavo.cli import main
from octavo.config.presets import preset
from octavo.engine.plan import plan
from tests.support.tiny import tiny_config


def test_json_is_the_plan(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "flash", "--context", "1M", "--hardware", "h100", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    expected = plan(preset("flash"), 2**20, "h100")
    assert found["model"] == "flash"
    assert found["context"] == 2**20
    assert found["cache_bytes"] == expected.cache_bytes
    assert found["fits"] is expected.fits


def test_table_has_every_row_of_the_plan(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "pro", "--context", "128K"]) == 0
    out = capsys.readouterr().out
    rows = plan(preset("pro"), 128 * 1024).rows
    assert all(row.name in out and row.value in out and row.detail in out for row in rows)
    titles = [line for line in out.splitlines() if line and line[0] != " "]
    assert titles == list(dict.fromkeys(row.section for row in rows))


def test_memory_for_experts_is_passed_on(capsys: pytest.CaptureFixture[str]) -> None:
    line = ["plan", "flash", "--context", "8K", "--weights", "bf16", "--offload-experts", "4GB"]
    assert main(line) == 0
    assert "experts on disk" in capsys.readouterr().out
    assert main([*line, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["offload"]
    expected = plan("flash", "8K", weights="bf16", offload_experts="4GB").offload
    assert expected is not None
    assert found["budget_bytes"] == 4_000_000_000
    assert found["decode_tokens_per_second"] == expected.decode_tokens_per_second


@pytest.mark.parametrize("entries", ["fp8", "fp4"])
def test_formats_are_passed_on(entries: str, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["plan", "xs", "--context", "8K", "--main", entries, "--index", "fp4", "--weights", "bf16", "--json"]
    assert main(line) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["main"], found["index"], found["weights"]) == (entries, "fp4", "bf16")
    assert found["cache_bytes"] == plan("xs", 8192, main=entries, index="fp4").cache_bytes


def test_folder_and_shipped_name_are_read_from_their_config(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tiny_config()
    folder = tmp_path / "octavo-test"
    folder.mkdir()
    (folder / "config.json").write_text(config.to_json())
    monkeypatch.setenv("OCTAVO_WEIGHTS", str(tmp_path))
    for name in ("octavo-test", str(folder), str(folder / "config.json")):
        assert main(["plan", name, "--context", "4096", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["cache_bytes"] == plan(config, 4096).cache_bytes


@pytest.mark.parametrize(
    ("line", "code", "message"),
    [
        (["flsh"], 1, "unknown preset 'flsh'"),
        (["flash", "--context", "many"], 2, "context is 'many'"),
        (["flash", "--context", "2M"], 1, "context is 2097152 tokens"),
        (["flash", "--hardware", "abacus"], 1, "unknown hardware 'abacus'"),
    ],
)
def test_bad_input_is_one_line(line: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", *line]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"octavo: error: {message}")
    assert err.count("\n") == 1


def test_no_model_is_bad_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan"]) == 2
    assert "MODEL" in capsys.readouterr().err
