"""What Ray Serve is told of a hint, by Ray Serve's own types."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
# In a process of its own: Ray sets up logging and threads wherever it is imported.
CODE = """
import asyncio
from ray.serve._private.common import DeploymentHandleSource, DeploymentID, ReplicaID, RequestMetadata
from ray.serve.request_router import PendingRequest
from octavo.server.replicas.messages import Asked, Hint
from octavo.server.replicas.router import HintRouter

class Running:
    def __init__(self, id):
        self.replica_id = ReplicaID(unique_id=id, deployment_id=DeploymentID(name="octavo"))

async def main():
    router = HintRouter(DeploymentID(name="octavo"), DeploymentHandleSource.REPLICA)
    router.initialize_state()
    replicas = [Running(id) for id in "abc"]
    async def first(*args):
        metadata = RequestMetadata(request_id="r", internal_request_id="i")
        pending = PendingRequest(args=list(args), kwargs={}, metadata=metadata) if args else None
        groups = await router.choose_replicas(replicas, pending)
        assert sorted(one.replica_id.unique_id for group in groups for one in group) == list("abc"), groups
        return groups[0][0].replica_id.unique_id
    def asked(hint):
        return Asked(method="GET", path="/", raw_path=b"/", query=b"", headers=(), caller="", body=b"", hint=hint)
    for id in "abc":
        assert {await first(asked(Hint(owner=id))) for _ in range(20)} == {id}
    assert {await first() for _ in range(200)} == set("abc")
    assert {await first("page") for _ in range(200)} == set("abc")
    assert await router.choose_replicas([], None) == []
asyncio.run(main())
"""


def test_the_hint_is_followed() -> None:
    run = subprocess.run([sys.executable, "-c", CODE], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
