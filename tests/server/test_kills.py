"""What a server process loses when it is killed, or its disk is full: nothing that it had told to be there.

Covers: `octavo serve` started again over its folders. Does not cover: files at every byte
(`tests.cache`, `tests.engine.serving.test_shelf`), power failures.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch

from octavo.engine.llm import LLM
from octavo.engine.serving.library import Library
from octavo.engine.serving.service import Service
from octavo.engine.serving.settings import ServiceSettings
from tests.support.asking import NAME, completion, ids, wait_for
from tests.support.listening import SECONDS, running
from tests.support.tiny import tiny_config, write_tiny_model
from tests.support.tiny_llm import STORY, tiny_llm

LINES = "".join(f"Line {i} says {i * i}. " for i in range(450))


class Child:
    """`octavo serve` over the folders of `home`."""

    def __init__(self, process: subprocess.Popen[str], url: str, home: Path, log: Path) -> None:
        self.process, self.home, self.log = process, home, log
        self.client = httpx.Client(base_url=url, timeout=SECONDS)

    def kill(self) -> None:
        """As the system does when memory is short."""
        self.process.kill()
        self.process.wait(SECONDS)

    def end(self) -> None:
        """As a user does; it must end well."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(SECONDS) == 0, self.log.read_text()

    def answer(self, prompt: list[int]) -> tuple[object, int]:
        """An answer with all its log-probabilities, and how much of its prompt was kept."""
        found = completion(self.client, prompt)
        assert found.status_code == 200, found.text
        usage = found.json()["usage"]["prompt_tokens_details"]
        return found.json()["choices"], usage["cached_tokens"]

    def read(self, name: str, text: str) -> httpx.Response:
        """Read a document and wait for it."""
        return self.client.post("/v1/documents", json={"name": name, "text": text, "file": "tale"})

    def ask(self, name: str) -> tuple[object, object]:
        """An answer and its sources."""
        found = self.client.post(f"/v1/documents/{name}/ask", json={"question": "Who?", "max_tokens": 8})
        assert found.status_code == 200, found.text
        return found.json()["answer"], found.json()["sources"]

    def document(self, name: str) -> dict[str, Any]:
        """What is known of it."""
        return self.client.get(f"/v1/documents/{name}").json()

    def limit_files(self, nbytes: int | None) -> None:
        """Let no file grow beyond so many bytes, as on a disk that is full; None: no limit."""
        _, hard = resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE, (hard if nbytes is None else nbytes, hard))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = tiny_config(max_position_embeddings=65_536)
    return write_tiny_model(tmp_path_factory.mktemp("model") / NAME, config, 1)


@contextmanager
def serve(model: Path, home: Path, more: str = "") -> Iterator[Child]:
    """A process that listens; it is gone behind the block. `more`: lines of its settings."""
    home.mkdir(exist_ok=True)
    number = len(list(home.glob("*.log")))
    log, settings = home / f"{number}.log", home / "serve.toml"
    settings.write_text(f"shelf_folder = {json.dumps(str(home / 'shelf'))}\ndrain_seconds = 5\n{more}")
    line = [sys.executable, "-m", "octavo", "serve", str(model), "--port", "0", "--cache", "64MiB", "--json"]
    line += ["--documents", str(home / "documents"), "--settings", str(settings)]
    line += ["--served-name", NAME]
    environment = {name: value for name, value in os.environ.items() if name != "OCTAVO_API_KEY"}
    with (
        log.open("w") as written,
        subprocess.Popen(line, stdout=subprocess.PIPE, stderr=written, text=True, env=environment) as process,
    ):
        try:
            assert process.stdout is not None
            told = process.stdout.readline()
            assert told, log.read_text()
            child = Child(process, json.loads(told)["url"], home, log)
            with child.client:
                yield child
        finally:
            process.kill()


def test_a_server_whose_worker_is_killed_says_so_and_ends(model: Path, tmp_path: Path) -> None:
    prompt = ids(1, 300)
    with serve(model, tmp_path / "one") as server:
        alone = completion(server.client, prompt).json()["choices"][0]["text"]
    with serve(model, tmp_path / "two", more="workers = 2\n") as server:
        assert completion(server.client, prompt).json()["choices"][0]["text"] == alone
        children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
        lines = {int(pid): Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children}
        workers = [pid for pid, line in lines.items() if b"octavo.engine.spread" in line]
        assert len(workers) == 1
        os.kill(workers[0], signal.SIGKILL)
        assert server.process.wait(SECONDS) == 1
        assert "worker 1 of 2 ended (signal SIGKILL)" in server.log.read_text()


def test_a_kill_while_it_reads_and_answers_loses_nothing_else(model: Path, tmp_path: Path) -> None:
    prompts = [ids(seed, length) for seed, length in ((1, 1100), (2, 1300))]
    shelf = tmp_path / "shelf"
    with serve(model, tmp_path) as server:
        assert server.read("kept", STORY * 3).status_code == 201
        kept, answers = server.ask("kept"), [server.answer(prompt) for prompt in prompts]
        assert [cached for _, cached in answers] == [0, 0]
        wait_for(lambda: len(list(shelf.glob("prefix-*.octavo"))) == 2)
        body = {"name": "long", "text": LINES, "file": "tale"}
        assert server.client.post("/v1/documents?wait=false", json=body).status_code == 202
        crowd = [threading.Thread(target=_ask_on, args=(str(server.client.base_url), seed)) for seed in range(2)]
        for one in crowd:
            one.start()
        wait_for(lambda: server.document("long")["done"] >= 4096)
        under_way = server.document("long")
        assert under_way["state"] == "reading", "too short a document: it was read before the kill"
        server.kill()
        for one in crowd:
            one.join(SECONDS)
    with serve(model, tmp_path) as server:
        found = {one["name"]: one for one in server.client.get("/v1/documents").json()["data"]}
        assert {name: one["state"] for name, one in found.items()} == {"kept": "ready", "long": "part"}
        assert 4096 <= found["long"]["done"] < found["long"]["tokens"] == under_way["tokens"]
        assert found["long"]["done"] % 4096 == 0
        _check_shelf(shelf, least=2)
        assert server.ask("kept") == kept
        again = [server.answer(prompt) for prompt in prompts]
        assert [choices for choices, _ in again] == [choices for choices, _ in answers]
        assert [cached for _, cached in again] == [1024, 1280]
        assert server.ask("long")  # what was read of it
        other = server.read("long", LINES.replace("Line 7 ", "Lime 7 "))
        assert other.status_code == 409
        assert "holds another text" in other.json()["error"]["message"]
        assert server.document("long") | {"bytes": 0} == found["long"] | {"bytes": 0}
        whole = server.read("long", LINES)
        assert whole.status_code == 201, whole.text
        assert (whole.json()["state"], whole.json()["done"]) == ("ready", found["long"]["tokens"])
        assert server.read("twin", LINES).json()["tokens"] == found["long"]["tokens"]
        assert server.ask("long") == server.ask("twin")
        server.end()
        assert "raceback" not in server.log.read_text()


def _ask_on(url: str, seed: int) -> None:
    """Ask, long prompts and long answers, until the server is gone."""
    with httpx.Client(base_url=url, timeout=SECONDS) as client, suppress(httpx.TransportError):
        for turn in range(10_000):
            length, most = ((1100, 1), (20, 100))[turn % 2]
            assert completion(client, ids(1000 * seed + turn + 10, length), max_tokens=most).status_code == 200


def _check_shelf(shelf: Path, *, least: int) -> None:
    names = [path.name for path in shelf.iterdir() if path.name != "lock"]
    assert len(names) >= least
    assert all(name.startswith("prefix-") and name.endswith(".octavo") for name in names), names


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="limits of another process are set with prlimit")
def test_a_full_disk_is_told_and_others_are_answered(model: Path, tmp_path: Path) -> None:
    file, shelf = tmp_path / "documents" / "long.octavo", tmp_path / "shelf"
    with serve(model, tmp_path) as server:
        assert server.read("kept", STORY * 3).status_code == 201
        kept, answer = server.ask("kept"), server.answer(ids(1, 1100))[0]
        wait_for(lambda: len(list(shelf.glob("prefix-*.octavo"))) == 1)
        for least in (0, 4096):  # before anything is read, and on the way
            told: list[httpx.Response] = []
            reading = threading.Thread(target=lambda told=told: told.append(server.read("long", LINES)))
            if least == 0:
                server.limit_files(16_384)
                reading.start()
            else:
                reading.start()
                wait_for(lambda: file.exists() and server.document("long")["done"] >= 4096)
                server.limit_files(file.stat().st_size + 1000)
            reading.join(SECONDS)
            assert not reading.is_alive()
            assert told[0].status_code == 507, told[0].text
            assert "no room" in told[0].json()["error"]["message"]
            assert server.ask("kept") == kept
            found = server.document("long")
            assert found["state"] == ("failed" if least == 0 else "part"), found
            assert found["done"] >= least
            if least == 0:
                assert "nothing folded" in found["error"]
                refused = server.client.post("/v1/documents/long/ask", json={"question": "Who?"})
                assert refused.status_code == 400
                assert server.answer(ids(2, 1100))[1] == 0  # its state cannot be written: no reason to fail
                wait_for(lambda: "writing failed" in server.log.read_text())
                _check_shelf(shelf, least=1)
                assert len(list(shelf.glob("prefix-*"))) == 1
                server.limit_files(None)
        server.limit_files(None)
        assert server.ask("long")
        whole = server.read("long", LINES)
        assert (whole.status_code, whole.json()["state"]) == (201, "ready"), whole.text
        assert server.answer(ids(1, 1100))[0] == answer
        server.end()


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LLM]:
    threads = torch.get_num_threads()
    yield tiny_llm(tmp_path_factory.mktemp("cut") / NAME, chunk=256, max_position_embeddings=8192)
    torch.set_num_threads(threads)


def test_a_document_cut_at_any_byte_is_listed_and_gone_on_with(llm: LLM, tmp_path: Path) -> None:
    """What a kill at that moment leaves: records are only appended."""
    text, file = LINES[:5600], tmp_path / "tale.octavo"

    def restarted() -> tuple[dict[str, Any], dict[str, Any]]:
        """What is listed, and an answer once all of it is read."""
        service = Service(llm, ServiceSettings(lanes=2, cache_bytes=64 * 2**20), library=Library(llm, tmp_path))
        with running(service) as server:
            listed = server.client.get("/v1/documents").json()["data"]
            if [one["state"] for one in listed] != ["ready"]:
                read = server.client.post("/v1/documents", json={"name": "tale", "text": text})
                assert read.status_code == 201, read.text
                assert read.json()["done"] == read.json()["tokens"] > 4096
            asked = {"question": "What says line 7?", "max_tokens": 8, "seed": 1}
            found = server.client.post("/v1/documents/tale/ask", json=asked).json()
            del found["usage"]
            return listed[0] if listed else {}, found

    nothing, answer = restarted()
    good = file.read_bytes()
    assert not nothing
    states = []
    for size in (0, 5000, len(good) // 2, len(good) - 100_000, len(good) - 1):
        file.write_bytes(good[:size])
        listed, found = restarted()
        states.append((listed["state"], listed["done"]))
        assert bool(listed["error"]) == (listed["state"] == "failed"), listed
        assert found == answer
    assert states == [("failed", 0)] * 3 + [("part", 4096), ("ready", listed["tokens"])]
