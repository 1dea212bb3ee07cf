"""`octavo serve` as a process: it starts, answers, and ends well."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from octavo.cli import main

SECONDS = 60


def test_a_process_starts_answers_and_ends_with_zero(shelf: Path, tmp_path: Path) -> None:
    line = [sys.executable, "-m", "octavo", "serve", "octavo-xs", "--port", "0", "--cache", "64MiB", "--json"]
    line += ["--documents", str(tmp_path / "docs")]
    environment = os.environ | {"OCTAVO_WEIGHTS": str(shelf), "OCTAVO_API_KEY": "hush-hush"}
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout is not None
            told = json.loads(process.stdout.readline())
            assert told["model"] == "octavo-xs"
            assert told["cache_bytes"] == 64 * 2**20
            with httpx.Client(base_url=told["url"], timeout=SECONDS) as client:
                assert client.get("/health").json() == {"status": "ok"}
                assert client.get("/v1/models").status_code == 401
                key = {"authorization": "Bearer hush-hush"}
                body = {"model": "octavo-xs", "prompt": "secret-word", "max_tokens": 3}
                found = client.post("/v1/completions", json=body, headers=key).json()
                assert found["usage"]["completion_tokens"] <= 3
            process.send_signal(signal.SIGTERM)
            out, err = process.communicate(timeout=SECONDS)
        finally:
            process.kill()
    assert process.returncode == 0, err
    assert out == ""
    lines = [json.loads(one) for one in err.splitlines()]
    assert [(one["path"], one["status"]) for one in lines if one["message"] == "request"] == [
        ("/health", 200),
        ("/v1/models", 401),
        ("/v1/completions", 200),
    ]
    assert "hush" not in err
    assert "secret-word" not in err


@pytest.mark.parametrize(
    ("line", "code", "message"),
    [
        (["--host", "0.0.0.0"], 2, "there is no api key"),
        (["--api-key-file", "none"], 2, "none: the api key file cannot be read"),
        (["--cache", "lots"], 2, "cache is 'lots'"),
        (["--device", "tpu"], 2, "device is 'tpu'"),
        (["--settings", "none.toml"], 2, "none.toml: the settings cannot be read"),
        (["--ray"], 2, "replicas share their documents through a folder: --documents"),
        (["nothing-of-this-name"], 1, "unknown model 'nothing-of-this-name'"),
    ],
)
def test_bad_lines_are_refused_before_loading(
    line: list[str], code: int, message: str, story: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.delenv("OCTAVO_API_KEY", raising=False)
    assert main(["serve", *line]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.count("\n") == 1


def test_missing_packages_name_the_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("octavo.cli.serve._NEEDED", ("fastapi", "no_such_package"))
    assert main(["serve"]) == 2
    assert capsys.readouterr().err == "octavo: error: serve needs no_such_package: pip install octavo[serve]\n"
    monkeypatch.setattr("octavo.cli.serve._NEEDED_BY_RAY", ("no_ray",))
    assert main(["serve", "--ray"]) == 2
    told = "octavo: error: serve needs no_such_package, no_ray: pip install octavo[serve,ray]\n"
    assert capsys.readouterr().err == told
