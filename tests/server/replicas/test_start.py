"""Replicas as their clients see them: real Ray, a tiny model, one process killed.

Covers: the protocols through the front, affinity, shared documents, what is counted at the front alone, growth, a
replica lost under load. Does not cover: parts by themselves, which the tests beside this one do.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import httpx
import openai
import pytest

from tests.support.asking import ids
from tests.support.replicas import KEY, NAME, SECONDS, Replicated, descendants, replicated
from tests.support.tiny_llm import STORY

SETTINGS = """
replicas_min = 2
replicas_max = 3
replica_cpus = 1
replica_target = 4
replica_grow_seconds = 1
max_running = 2
drain_seconds = 5
requests_per_minute = 100000
"""
REQUESTS, TOKENS = 20, 200


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replicated]:
    with replicated(tmp_path_factory.mktemp("replicas"), SETTINGS) as found:
        yield found


@pytest.fixture(scope="module")
def client(server: Replicated) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key=KEY, max_retries=0, timeout=SECONDS) as found:
        yield found


def say(text: str, role: str = "user") -> Any:
    return {"role": role, "content": text}


def test_it_tells_what_all_will_hold(server: Replicated) -> None:
    assert (server.told["replicas_min"], server.told["replicas_max"]) == (2, 3)
    assert server.told["cache_bytes"] == 64 * 2**20
    assert len(server.replicas()) == 2


def test_official_clients_talk_to_it(client: openai.OpenAI, server: Replicated) -> None:
    answer = client.chat.completions.create(model=NAME, messages=[say("Who?")], max_tokens=4)
    assert answer.usage is not None
    assert answer.usage.completion_tokens <= 4
    chunks = list(client.chat.completions.create(model=NAME, messages=[say("Who?")], max_tokens=4, stream=True))
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].choices[0].finish_reason is not None
    assert len({chunk.id for chunk in chunks}) == 1
    with pytest.raises(openai.NotFoundError, match="is not served here"):
        client.chat.completions.create(model="other", messages=[say("Who?")])
    body = {"model": NAME, "max_tokens": 4, "messages": [say("Who?")], "stream": True}
    events = server.client.post("/v1/messages", json=body).text
    assert events.startswith("event: message_start\n")
    assert events.rstrip().split("\n")[-2] == "event: message_stop"
    assert server.client.get("/openapi.json").json()["info"]["title"] == "octavo"
    assert "<!doctype html>" in server.client.get("/").text.lower()


def test_stored_responses_are_found_where_they_are(client: openai.OpenAI) -> None:
    made = [client.responses.create(model=NAME, input=f"Who? {i}", max_output_tokens=4) for i in range(6)]
    for one in made:
        assert client.responses.retrieve(one.id).id == one.id
        after = client.responses.create(model=NAME, input="And?", previous_response_id=one.id, max_output_tokens=4)
        assert after.previous_response_id == one.id
        client.responses.delete(one.id)
        with pytest.raises(openai.NotFoundError):
            client.responses.retrieve(one.id)


def test_a_second_turn_finds_what_the_first_left(client: openai.OpenAI) -> None:
    for number in range(6):
        talk = [say(f"{number} " + STORY * 6)]
        first = client.chat.completions.create(model=NAME, messages=talk, max_tokens=4)
        talk += [say(first.choices[0].message.content or "?", "assistant"), say("And then?")]
        second = client.chat.completions.create(model=NAME, messages=talk, max_tokens=4)
        assert first.usage is not None
        assert second.usage is not None
        assert second.usage.prompt_tokens_details is not None
        assert (second.usage.prompt_tokens_details.cached_tokens or 0) >= 256


def test_keys_and_rates_are_the_fronts(server: Replicated) -> None:
    assert httpx.get(f"{server.url}/v1/models").status_code == 401
    assert httpx.get(f"{server.url}/health").status_code == 200
    found = server.client.get("/v1/models")
    assert found.status_code == 200
    assert found.headers["x-ratelimit-limit-requests"] == "100000"
    assert found.headers.get_list("x-request-id") == [found.headers["x-request-id"]]


def test_a_document_that_one_read_is_every_ones(server: Replicated) -> None:
    sent = server.client.post("/v1/documents", data={"name": "tale"}, files={"file": ("x.txt", STORY * 4)})
    assert (sent.status_code, sent.json()["state"]) == (201, "ready")
    for _ in range(8):
        assert [one["name"] for one in server.client.get("/v1/documents").json()["data"]] == ["tale"]
    for _ in range(2):
        asked = server.client.post("/v1/documents/tale/ask", json={"question": "Who?", "max_tokens": 4})
        assert asked.status_code == 200
    assert server.client.get("/v1/documents/tale/text?start=4&end=10").json()["text"] == STORY[4:10]
    assert server.client.delete("/v1/documents/tale").json()["deleted"]
    for _ in range(8):
        assert server.client.get("/v1/documents").json()["data"] == []


def test_no_port_but_the_replicas_own_is_open_to_others_and_that_asks_for_a_token(server: Replicated) -> None:
    wide = wide_ports(server)
    assert len(wide) <= len(server.replicas())
    for port in wide:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            call = channel.unary_unary("/ray.serve.ASGIService/HandleRequest")
            with pytest.raises(grpc.RpcError) as refused:
                call(b"", timeout=SECONDS)
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED


def wide_ports(server: Replicated) -> list[int]:
    """Ports that processes of the server listen on at every address."""
    inodes = set()
    for pid in (server.process.pid, *descendants(server.process.pid)):
        try:
            links = [os.readlink(f"/proc/{pid}/fd/{name}") for name in os.listdir(f"/proc/{pid}/fd")]
        except OSError:
            continue
        inodes |= {link[8:-1] for link in links if link.startswith("socket:[")}
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            address, port = fields[1].split(":")
            if fields[3] == "0A" and fields[9] in inodes and not int(address, 16):
                found.append(int(port, 16))
    return found


def test_more_replicas_come_under_load_and_one_that_is_killed_loses_only_what_had_begun(server: Replicated) -> None:
    done = threading.Event()

    def load(number: int) -> None:
        while not done.is_set():
            answered(server, number)

    with ThreadPoolExecutor(REQUESTS) as threads:
        loading = [threads.submit(load, number) for number in range(REQUESTS)]
        try:
            server.until(lambda: server.metric("octavo:replicas") == 3)
        finally:
            done.set()
        for one in loading:
            one.result()
    assert len(server.replicas()) == 3

    alone = {number: answered(server, number) for number in range(REQUESTS)}
    victim, begun = server.replicas()[0], threading.Semaphore(0)
    with ThreadPoolExecutor(2 * REQUESTS) as threads:
        streams = [threads.submit(streamed, server, number, begun) for number in range(REQUESTS)]
        wholes = [threads.submit(answered, server, number) for number in range(REQUESTS)]
        for _ in range(4):
            assert begun.acquire(timeout=SECONDS)
        os.kill(victim, signal.SIGKILL)
        assert [one.result() for one in wholes] == [alone[number] for number in range(REQUESTS)]
        ends = [one.result() for one in streams]
    broken = 0
    for number, (text, error) in enumerate(ends):
        if error is None:
            assert text == alone[number]
        else:
            broken += 1
            assert text
            assert alone[number].startswith(text)
            assert error == {
                "message": "the replica that was answering is gone; ask again", "type": "overloaded_error",
                "param": None, "code": None,
            }  # fmt: skip
    assert broken <= 2  # as many as a replica runs at a time
    assert server.metric("octavo:replicas_lost_total") >= 1
    server.until(lambda: server.metric("octavo:replicas") >= 2)


def answered(server: Replicated, number: int) -> str:
    """A whole answer."""
    found = server.client.post("/v1/completions", json=asked(number))
    assert found.status_code == 200, found.text
    return found.json()["choices"][0]["text"]


def streamed(server: Replicated, number: int, begun: threading.Semaphore) -> tuple[str, Any]:
    """What came of a stream, and the error that ended it."""
    text, is_over = "", False
    with server.client.stream("POST", "/v1/completions", json=asked(number) | {"stream": True}) as response:
        assert response.status_code == 200
        for line in response.iter_lines():
            if not line.startswith("data: "):
                continue
            if line == "data: [DONE]":
                is_over = True
                continue
            event = json.loads(line[6:])
            if "error" in event:
                return text, event["error"]
            if not text:
                begun.release()
            text += event["choices"][0]["text"]
    assert is_over, "a stream ended without its end"
    return text, None


def asked(number: int) -> dict[str, Any]:
    return {"model": NAME, "prompt": ids(number, 30), "max_tokens": TOKENS, "temperature": 0}


def test_the_log_is_one_object_a_line_and_names_no_secret(server: Replicated) -> None:
    lines = [json.loads(line) for line in server.log.read_text().splitlines()]
    assert any(line["message"] == "a replica was lost" for line in lines)
    assert KEY not in server.log.read_text()


def test_the_port_is_its_own_before_anything_starts(server: Replicated) -> None:
    with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])), timeout=SECONDS):
        pass
