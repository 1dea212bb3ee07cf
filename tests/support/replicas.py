"""`octavo serve --ray` as a process over a tiny model, and a look at the processes below it.

Covers: starting, the pids of its replicas, killing one, an end that leaves nothing behind. Does not cover: what it
answers. Linux only: processes are found in /proc.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.tiny import tiny_config, write_tiny_model

NAME, KEY = "octavo-tiny", "hush-hush"
START_SECONDS = 120
SECONDS = 60


class Replicated:
    """The server: its `url`, a `client` with its key, its `log`."""

    def __init__(self, process: subprocess.Popen[str], url: str, log: Path, told: dict[str, Any]) -> None:
        self.process, self.url, self.log, self.told = process, url, log, told
        self.client = httpx.Client(base_url=url, headers={"authorization": f"Bearer {KEY}"}, timeout=SECONDS)

    def replicas(self) -> list[int]:
        """Pids of replicas, by Ray's title of their processes."""
        return [pid for pid in descendants(self.process.pid) if title(pid).startswith("ray::ServeReplica")]

    def until(self, condition: Callable[[], bool]) -> None:
        """Return once `condition()` holds; as long as a replica may take to start."""
        end = time.monotonic() + START_SECONDS
        while not condition():
            assert time.monotonic() < end, self.log.read_text()
            time.sleep(0.1)

    def metric(self, name: str) -> float:
        """The sum of a metric's samples."""
        page = self.client.get("/metrics").text
        return sum(float(value) for value in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", page, re.MULTILINE))


@contextmanager
def replicated(home: Path, settings: str) -> Iterator[Replicated]:
    """A server with `settings` (TOML); behind the block neither it nor anything that it started is left."""
    if not Path("/proc/self/stat").exists():
        pytest.skip("processes are found in /proc")
    model = write_tiny_model(home / NAME, tiny_config(max_position_embeddings=65_536), 1)
    (home / "serve.toml").write_text(settings)
    line = [sys.executable, "-m", "octavo", "serve", str(model), "--ray", "--port", "0", "--cache", "64MiB", "--json"]
    line += ["--served-name", NAME, "--documents", str(home / "documents"), "--settings", str(home / "serve.toml")]
    environment, log = os.environ | {"OCTAVO_API_KEY": KEY}, home / "log"
    with (
        log.open("w") as written,
        subprocess.Popen(
            line, stdout=subprocess.PIPE, stderr=written, text=True, env=environment, start_new_session=True
        ) as process,
    ):
        try:
            assert process.stdout is not None
            told = process.stdout.readline()
            assert told, log.read_text()
            server = Replicated(process, json.loads(told)["url"], log, json.loads(told))
            below = {pid: title(pid) for pid in descendants(process.pid)}
            folders = {match[0] for one in below.values() if (match := re.search(r"/\S*/octavo-ray-\w+", one))}
            with server.client:
                yield server
            process.send_signal(signal.SIGTERM)
            assert process.wait(SECONDS) == 0, log.read_text()
            assert process.stdout.read() == ""
        finally:
            left = descendants(process.pid)
            process.kill()
            for pid in left:
                os.kill(pid, signal.SIGKILL)
    assert folders, "Ray keeps its files nowhere"
    assert not [folder for folder in folders if Path(folder).exists()]
    assert not [pid for pid, was in below.items() if was and title(pid) == was]
    assert not list((home / "documents").glob(".incoming*"))


def descendants(pid: int) -> list[int]:
    """All processes below one."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(") ")[2].split()
        except OSError:
            continue
        children.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found, left = [], [pid]
    while left:
        left += (more := children.get(left.pop(), []))
        found += more
    return found


def title(pid: int) -> str:
    """What a process calls itself; nothing for one that is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    except OSError:
        return ""
