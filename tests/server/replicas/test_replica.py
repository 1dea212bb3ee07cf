"""A replica as Ray Serve sees it; `test_start` runs one under Ray."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
# In a process of its own: Ray sets up logging and threads wherever it is imported.
CODE = """
import asyncio, inspect, sys
from pathlib import Path
from octavo.server.replicas.messages import Asked, Hint, Over, Taken
from octavo.server.replicas.replica import Replica
from octavo.server.replicas.served import Served
from octavo.server.settings import ServerSettings
from tests.support.listening import tiny_service

async def main(folder):
    replica = object.__new__(Replica)  # what its start would do needs Ray Serve around it
    replica._served = Served(tiny_service(folder), ServerSettings(drain_seconds=5), id="a")
    await replica._served.start()
    asked = Asked(method="GET", path="/v1/models", raw_path=b"/v1/models", query=b"", caller="key 1", body=b"",
                  headers=((b"host", b"localhost"),), hint=Hint())
    parts = [part async for some in replica.answer(asked) for part in some]
    assert parts[0] == Taken(replica="a") and isinstance(parts[-1], Over), parts
    id, page = replica.page()
    assert id == "a" and b"octavo:num_requests_running" in page
    answering = replica.answer(asked)
    await anext(answering)
    await answering.aclose()
    service = replica._served.service
    await replica.__del__()
    assert service.llm.pool.allocator.used == 0
    type(replica).__del__ = lambda self: None  # Ray Serve calls it once, and never leaves it to Python

assert inspect.iscoroutinefunction(Replica.__init__) and inspect.iscoroutinefunction(Replica.__del__)
asyncio.run(main(Path(sys.argv[1])))
"""


def test_it_answers_and_ends(tmp_path: Path) -> None:
    line = [sys.executable, "-c", CODE, str(tmp_path)]
    run = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "")
