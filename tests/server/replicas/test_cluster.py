"""What Ray is told before it starts, and what its errors mean; `test_start` runs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from octavo.config.errors import UsageError
from octavo.server.launch import Launch
from octavo.server.replicas.cluster import _environment
from tests.support.tiny import tiny_config, write_tiny_model

ROOT = Path(__file__).resolve().parents[3]
# In a process of its own: Ray sets up logging and threads wherever it is imported.
CODE = """
import asyncio
import ray.exceptions as errors
from ray.serve.exceptions import BackPressureError
from octavo.server.replicas.cluster import Cluster
from octavo.server.replicas.messages import AnswerBroken, ReplicaLost

class Response:
    def __init__(self, error):
        self.error, self.is_cancelled = error, False
    async def __aiter__(self):
        yield ("part",)
        if self.error is not None:
            raise self.error
        await asyncio.Event().wait()
    def cancel(self):
        self.is_cancelled = True

async def outcome(error):
    cluster, response = object.__new__(Cluster), Response(error)
    cluster._answers = type("Handle", (), {"remote": lambda self, asked: response})()
    asking = cluster.ask(None)
    assert await anext(asking) == ("part",)
    if error is None:
        await asking.aclose()
        return response.is_cancelled
    try:
        await anext(asking)
    except Exception as found:
        assert not response.is_cancelled
        return type(found)

async def main():
    assert await outcome(errors.ActorDiedError()) is ReplicaLost
    assert await outcome(errors.ActorUnavailableError("x", None)) is ReplicaLost
    assert await outcome(errors.GetTimeoutError("late")) is AnswerBroken
    assert await outcome(None) is True
asyncio.run(main())
"""


def test_errors_of_ray_are_told_apart() -> None:
    run = subprocess.run([sys.executable, "-c", CODE], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


def test_ray_reports_nothing_and_asks_for_a_token_that_is_new_each_time() -> None:
    own, other = _environment(own=True), _environment(own=True)
    assert own["RAY_USAGE_STATS_ENABLED"] == "0"
    assert own["RAY_AUTH_MODE"] == "token"
    assert len(own["RAY_AUTH_TOKEN"]) == 64
    assert own["RAY_AUTH_TOKEN"] != other["RAY_AUTH_TOKEN"]
    theirs = _environment(own=False)
    assert theirs["RAY_USAGE_STATS_ENABLED"] == "0"
    assert not {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN"} & set(theirs)


def test_replicas_are_told_no_secret_and_their_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCTAVO_API_KEY", "hush")
    write_tiny_model(tmp_path / "octavo-tiny", tiny_config(max_position_embeddings=4096), 1)
    (tmp_path / "serve.toml").write_text("replicas_max = 4\nreplicas_min = 3\nrequests_per_minute = 9\n")
    given = {"key_file": None, "file": str(tmp_path / "serve.toml"), "device": "cpu", "weights": None, "ray": True}
    with pytest.raises(UsageError, match="documents is not given"):
        Launch.of(str(tmp_path / "octavo-tiny"), {}, **given)
    launch = Launch.of(str(tmp_path / "octavo-tiny"), {"documents": str(tmp_path / "docs")}, **given)
    held = launch.holding
    assert (held.replicas_min, held.replicas_max) == (3, 4)
    assert held.cache_bytes == held.free_bytes // 8
    told = launch.for_replica()
    assert told.settings.api_keys == ()
    assert told.settings.requests_per_minute is None
    assert told.settings.cache_bytes == held.cache_bytes
    assert launch.replica_cpus >= 1
