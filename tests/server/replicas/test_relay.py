"""A request's way through the front, over real replicas in this process that are lost at will.

Covers: attempts, affinity, bodies, charges, clients that leave. Does not cover: replicas in processes (`test_start`).
"""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope, Send

from octavo.server.replicas.directory import Directory
from octavo.server.replicas.messages import Asked, Head, Over, Part, ReplicaLost, Taken
from octavo.server.replicas.relay import ATTEMPTS, Relay
from octavo.server.replicas.served import Served
from octavo.server.settings import ServerSettings
from tests.support.listening import SECONDS, tiny_service
from tests.support.tiny_llm import STORY

NAME = "octavo-tiny"
CHAT = "/v1/chat/completions"
SAID = Head(status=200, headers=((b"content-type", b"text/event-stream"),))


class Replicas:
    """What Ray Serve is to the front. `lose` names replicas that vanish after so many parts of an answer."""

    def __init__(self, **served: Any) -> None:
        self.served, self.lose = served, dict[str, int]()
        self.asked: list[tuple[str, Asked]] = []
        self.closed: list[str] = []

    async def ask(self, asked: Asked) -> AsyncGenerator[tuple[Part, ...], None]:
        there = [one for one in self.served if one not in asked.hint.avoid]
        replica = asked.hint.owner if asked.hint.owner in there else there[0]
        self.asked.append((replica, asked))
        answering, left = self.served[replica](asked), self.lose.get(replica)
        try:
            async for parts in answering:
                for part in parts if left is not None else (parts,):
                    if left == 0:
                        raise ReplicaLost("the replica is gone")
                    left = None if left is None else left - 1
                    yield (part,) if isinstance(part, Taken | Head | bytes | Over) else part
        finally:
            self.closed.append(replica)
            await answering.aclose()


def scripted(replica: str, *parts: Part) -> Any:
    """A replica that says just that."""

    async def answer(asked: Asked) -> AsyncGenerator[tuple[Part, ...], None]:
        yield (Taken(replica=replica),)
        for part in parts:
            yield (part,)

    return answer


class World:
    """A relay over replicas, called as the front's layers call it."""

    def __init__(self, folder: Path, **served: Any) -> None:
        self.replicas, self.charges, self.log = Replicas(**served), list[tuple[str, int]](), io.StringIO()
        self.folder, self.directory = folder, Directory(slack=4)
        self.relay = Relay(
            self.replicas.ask, self.directory, incoming=folder,
            charge=lambda caller, tokens: self.charges.append((caller, tokens)), log_to=self.log,
        )  # fmt: skip

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        """What stands before the relay."""
        scope["state"] = {"caller": "key 1", "request_id": "req_1"}
        await self.relay(scope, receive, send)

    async def send(self, method: str, path: str, **given: Any) -> httpx.Response:
        """One request."""
        transport = httpx.ASGITransport(self.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://front", timeout=SECONDS) as client:
            return await client.request(method, path, **given)


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def two(loop: asyncio.Runner, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Served]]:
    """Two replicas over one folder of documents."""
    folder = tmp_path_factory.mktemp("two")
    settings = ServerSettings(served_name=NAME, drain_seconds=5)
    made = {}
    for id in "ab":
        service = tiny_service(folder / id, folder / "documents", max_position_embeddings=8192)
        made[id] = Served(service, settings, id=id)
        loop.run(made[id].start())
    yield made
    for one in made.values():
        loop.run(one.close())


@pytest.fixture
def world(two: dict[str, Served], tmp_path: Path) -> World:
    return World(tmp_path, **{id: served.answer for id, served in two.items()})


def chat(text: str = "Who?", **fields: Any) -> dict[str, Any]:
    return {"model": NAME, "messages": [{"role": "user", "content": text}], "max_tokens": 4, "temperature": 0} | fields


def test_a_second_turn_goes_where_the_first_went(world: World, loop: asyncio.Runner) -> None:
    world.directory.enter("a")
    world.replicas.served = dict(reversed(world.replicas.served.items()))  # b would come first
    first = loop.run(world.send("POST", CHAT, json=chat(STORY * 6))).json()
    world.replicas.served = dict(reversed(world.replicas.served.items()))  # now a would
    turns = [*chat(STORY * 6)["messages"], {"role": "assistant", "content": "x"}, {"role": "user", "content": "And?"}]
    second = loop.run(world.send("POST", CHAT, json=chat() | {"messages": turns})).json()
    assert [replica for replica, _ in world.replicas.asked] == ["b", "b"]
    assert first["usage"]["prompt_tokens_details"]["cached_tokens"] == 0
    assert second["usage"]["prompt_tokens_details"]["cached_tokens"] >= 256
    assert world.directory.loads == {"a": 1}


def test_a_lost_replica_is_not_noticed_before_anything_was_said(world: World, loop: asyncio.Runner) -> None:
    alone = loop.run(world.send("POST", CHAT, json=chat())).json()["choices"]
    world.replicas.asked.clear()
    for parts in (1, 2):  # with the request, with the head sent
        world.replicas.lose = {"a": parts}
        found = loop.run(world.send("POST", CHAT, json=chat()))
        assert found.status_code == 200
        assert found.json()["choices"] == alone
        text = loop.run(world.send("POST", CHAT, json=chat(stream=True))).text
        assert "error" not in text
        assert text.count('"role"') == 1
        assert text.endswith("data: [DONE]\n\n")
    assert world.relay.lost == 4
    assert [replica for replica, _ in world.replicas.asked] == ["a", "b"] * 4
    assert world.directory.loads == {}


def test_a_stream_that_had_begun_ends_with_an_error(tmp_path: Path, loop: asyncio.Runner) -> None:
    world = World(tmp_path, a=scripted("a", SAID, b'data: {"a":1}\n\n', b"lost"), b=scripted("b", SAID))
    world.replicas.lose = {"a": 3}
    text = loop.run(world.send("POST", CHAT, json=chat(stream=True))).text
    assert text.startswith('data: {"a":1}\n\nevent: error\ndata: ')
    assert "the replica that was answering is gone; ask again" in text
    assert [replica for replica, _ in world.replicas.asked] == ["a"]


def test_after_three_lost_replicas_it_is_refused(tmp_path: Path, loop: asyncio.Runner) -> None:
    world = World(tmp_path, **{id: scripted(id, SAID) for id in "abcd"})
    world.replicas.lose = dict.fromkeys("abcd", 1)
    found = loop.run(world.send("POST", CHAT, json=chat()))
    assert found.status_code == 503
    assert "3 replicas were lost while they had this request" in found.json()["error"]["message"]
    assert [replica for replica, _ in world.replicas.asked] == list("abcd"[:ATTEMPTS])


def test_an_answer_that_breaks_off_is_no_answer(tmp_path: Path, loop: asyncio.Runner) -> None:
    world = World(tmp_path, a=scripted("a", SAID, Over(whole=False, lines=('{"level":"error"}',))))
    with pytest.raises(Exception, match="the answer broke off"):
        loop.run(world.send("POST", CHAT, json=chat()))
    assert world.log.getvalue() == '{"level":"error"}\n'


def test_what_jobs_took_is_charged_to_the_caller_once(world: World, loop: asyncio.Runner) -> None:
    loop.run(world.send("GET", "/v1/models"))  # brings what earlier tests gave up
    world.charges.clear()
    used = loop.run(world.send("POST", CHAT, json=chat("How much does this take?"))).json()["usage"]
    loop.run(world.send("GET", "/v1/models"))
    assert world.charges == [("key 1", used["prompt_tokens"] + used["completion_tokens"])]


def test_replicas_hear_of_no_key_and_get_the_rest_as_it_was(world: World, loop: asyncio.Runner) -> None:
    headers = {"authorization": "Bearer hush", "x-api-key": "hush", "origin": "http://x", "x-other": "1"}
    found = loop.run(world.send("GET", "/v1/models?a=b%20c", headers=headers))
    assert found.status_code == 200
    [(_, asked)] = world.replicas.asked
    given = dict(asked.headers)
    assert b"hush" not in b"".join(given.values())
    assert (given[b"x-other"], given[b"host"], given[b"x-request-id"]) == (b"1", b"localhost", b"req_1")
    assert (asked.query, asked.raw_path, asked.body) == (b"a=b%20c", b"/v1/models", b"")
    assert found.headers["x-request-id"] == "req_1"


def test_forms_go_through_a_file_that_is_gone_afterwards(world: World, loop: asyncio.Runner) -> None:
    files = {"file": ("x.txt", STORY * 3)}
    sent = loop.run(world.send("POST", "/v1/documents", data={"name": "tale"}, files=files))
    assert (sent.status_code, sent.json()["state"]) == (201, "ready")
    [(replica, asked)] = world.replicas.asked
    assert isinstance(asked.body, Path)
    assert asked.body.parent == world.folder
    assert not list(world.folder.iterdir())
    assert world.directory.hint(("document:tale",)).owner == replica
    for _ in "ab":
        world.replicas.served = dict(reversed(world.replicas.served.items()))
        listed = loop.run(world.send("GET", "/v1/documents")).json()["data"]
        assert [one["name"] for one in listed] == ["tale"]


def test_a_response_is_looked_for_where_it_was_made(world: World, loop: asyncio.Runner) -> None:
    body = {"model": NAME, "input": "Who?", "max_output_tokens": 4}
    made = loop.run(world.send("POST", "/v1/responses", json=body)).json()["id"]
    world.replicas.served = dict(reversed(world.replicas.served.items()))
    assert loop.run(world.send("GET", f"/v1/responses/{made}")).json()["id"] == made
    streamed = loop.run(world.send("POST", "/v1/responses", json=body | {"stream": True})).text
    id = json.loads(streamed.split("data: ")[1].split("\n")[0])["response"]["id"]
    world.replicas.served = dict(reversed(world.replicas.served.items()))
    assert loop.run(world.send("GET", f"/v1/responses/{id}")).status_code == 200


async def _called(world: World, *received: Message, hang: bool = True) -> list[Message]:
    """The relay on a request whose client sends just that, and then nothing or its leave."""
    messages, waiting = list(received), asyncio.Event()
    sent: list[Message] = []

    async def receive() -> Message:
        if messages:
            return messages.pop(0)
        if hang:
            await waiting.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": CHAT, "query_string": b"", "headers": []}
    await asyncio.wait_for(world.app(scope, receive, send), SECONDS)
    return sent


def endless(replica: str, started: asyncio.Event) -> Any:
    """A replica that has the request and says nothing."""

    async def answer(asked: Asked) -> AsyncGenerator[tuple[Part, ...], None]:
        yield (Taken(replica=replica),)
        started.set()
        await asyncio.Event().wait()

    return answer


BODY: Message = {"type": "http.request", "body": b"{}", "more_body": False}


def test_a_client_that_leaves_gives_its_request_up(tmp_path: Path, loop: asyncio.Runner) -> None:
    world = World(tmp_path, a=endless("a", asyncio.Event()))
    assert loop.run(_called(world, BODY, hang=False)) == []
    assert world.replicas.closed == ["a"]
    assert world.directory.loads == {}
    with pytest.raises(ClientDisconnect):
        loop.run(_called(world, {"type": "http.request", "body": b"{", "more_body": True}, hang=False))


def test_the_end_tells_those_that_are_left(tmp_path: Path, loop: asyncio.Runner) -> None:
    started = asyncio.Event()
    world = World(tmp_path, a=endless("a", started))

    async def ended() -> list[Message]:
        calling = asyncio.create_task(_called(world, BODY))
        await asyncio.wait_for(started.wait(), SECONDS)
        await asyncio.to_thread(world.relay.close)
        return await calling

    sent = loop.run(ended())
    assert sent[0]["status"] == 503
    assert b"the server ends" in sent[1]["body"]
    assert world.replicas.closed == ["a"]
