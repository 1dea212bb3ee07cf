"""The application inside a replica, called without a socket."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from octavo.server.logs import ERRORS
from octavo.server.replicas.messages import Asked, Head, Hint, Over, Part, Taken
from octavo.server.replicas.served import GAP_SECONDS, MAX_LINES, Lines, Served, _Call
from octavo.server.settings import ServerSettings
from tests.support.asking import wait_for
from tests.support.listening import SECONDS, tiny_service

NAME = "octavo-tiny"


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def served(loop: asyncio.Runner, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    service = tiny_service(folder, folder / "documents", max_position_embeddings=8192)
    made = Served(service, ServerSettings(served_name=NAME, drain_seconds=5), id="a")
    loop.run(made.start())
    yield made
    loop.run(made.close())
    assert service.llm.pool.allocator.used == 0, "pages leaked"


def asked(method: str, path: str, body: bytes | Path = b"", *, kind: bytes = b"application/json") -> Asked:
    headers = ((b"content-type", kind), (b"host", b"localhost"), (b"x-request-id", b"req_7"))
    return Asked(
        method=method, path=path, raw_path=path.encode(), query=b"", headers=headers, caller="key 2", body=body,
        hint=Hint(),
    )  # fmt: skip


def chat(**fields: Any) -> bytes:
    body = {"model": NAME, "messages": [{"role": "user", "content": "Who?"}], "max_tokens": 4, "temperature": 0}
    return json.dumps(body | fields).encode()


async def parts(served: Served, request: Asked) -> list[Part]:
    return [part async for some in served.answer(request) for part in some]


def test_an_answer_in_parts(served: Served, loop: asyncio.Runner) -> None:
    taken, head, body, over = loop.run(parts(served, asked("POST", "/v1/chat/completions", chat())))
    assert taken == Taken(replica="a")
    assert isinstance(head, Head)
    assert head.status == 200
    assert (b"x-request-id", b"req_7") in head.headers
    assert isinstance(body, bytes)
    usage = json.loads(body)["usage"]
    assert over == Over(charges=(("key 2", usage["prompt_tokens"] + usage["completion_tokens"]),))


def test_a_stream_comes_event_by_event(served: Served, loop: asyncio.Runner) -> None:
    found = loop.run(parts(served, asked("POST", "/v1/chat/completions", chat(stream=True))))
    chunks = [part for part in found if isinstance(part, bytes)]
    assert len(chunks) >= 3
    assert b"".join(chunks).endswith(b"data: [DONE]\n\n")
    assert isinstance(found[-1], Over)
    assert found[-1].whole


def test_streams_share_a_number_of_messages(served: Served, loop: asyncio.Runner) -> None:
    async def stream() -> int:
        request = asked("POST", "/v1/chat/completions", chat(stream=True, max_tokens=100))
        return len([some async for some in served.answer(request)])

    async def all_of(number: int) -> None:
        started = time.monotonic()
        messages = await asyncio.gather(*(stream() for _ in range(number)))
        seconds = time.monotonic() - started
        # Some of each answer wait for nothing: the first ones, and the last.
        assert sum(messages) <= seconds / GAP_SECONDS + 4 * number

    loop.run(all_of(8))


def test_parts_that_come_in_a_gap_go_together(loop: asyncio.Runner) -> None:
    async def gathered() -> None:
        may_go_on = asyncio.Event()

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await may_go_on.wait()
            for number in range(5):
                await send({"type": "http.response.body", "body": b"%d" % number, "more_body": number < 4})
                await asyncio.sleep(0)

        calling = _Call(app, asked("GET", "/"))
        assert await calling.more(0) == ([Head(status=200, headers=())], False)
        may_go_on.set()
        found, is_over = await calling.more(0.2)
        assert found[:2] == [b"0", b"1"]
        while not is_over:
            more, is_over = await calling.more(0)
            found += more
        assert b"".join(part for part in found if isinstance(part, bytes)) == b"01234"
        assert calling.is_whole
        await calling.close()

    loop.run(gathered())


def test_the_last_bytes_come_with_the_end(served: Served, loop: asyncio.Runner) -> None:
    async def last() -> tuple[Part, ...]:
        return [some async for some in served.answer(asked("GET", "/v1/models"))][-1]

    some = loop.run(last())
    assert isinstance(some[-2], bytes)
    assert isinstance(some[-1], Over)


def test_a_form_is_read_from_its_file(served: Served, loop: asyncio.Runner, tmp_path: Path) -> None:
    form = b'--b\r\ncontent-disposition: form-data; name="file"; filename="t.txt"\r\n\r\n'
    (tmp_path / "form").write_bytes(form + b"Call me. " * 100 + b"\r\n--b--\r\n")
    request = asked("POST", "/v1/documents", tmp_path / "form", kind=b"multipart/form-data; boundary=b")
    _, head, body, over = loop.run(parts(served, request))
    assert isinstance(head, Head)
    assert isinstance(body, bytes)
    assert isinstance(over, Over)
    assert (head.status, json.loads(body)["name"]) == (201, "t")
    assert over.charges == (("key 2", json.loads(body)["tokens"]),)


def test_one_that_is_given_up_ends_and_is_charged_later(served: Served, loop: asyncio.Runner) -> None:
    async def left_early() -> None:
        answering = served.answer(asked("POST", "/v1/chat/completions", chat(stream=True, max_tokens=4000)))
        async for some in answering:
            if any(isinstance(part, bytes) for part in some):
                break
        await asyncio.wait_for(answering.aclose(), SECONDS)

    loop.run(left_early())
    wait_for(lambda: served.service.status().running == 0)
    over = loop.run(parts(served, asked("GET", "/v1/models")))[-1]
    assert isinstance(over, Over)
    assert [caller for caller, _ in over.charges] == ["key 2"]


def test_its_metrics_are_its_own(served: Served) -> None:
    assert b'octavo:num_requests_running{model_name="octavo-tiny"} 0.0' in served.page()


def test_lines_of_the_log_go_with_the_next_answer(served: Served, loop: asyncio.Runner) -> None:
    log = logging.getLogger(ERRORS)
    log.addHandler(served.lines)
    try:
        log.error("it broke", extra={"fields": {"request_id": "req_1"}})
    finally:
        log.removeHandler(served.lines)
    over = loop.run(parts(served, asked("GET", "/v1/models")))[-1]
    assert isinstance(over, Over)
    [line] = map(json.loads, over.lines)
    assert (line["message"], line["request_id"], line["replica"]) == ("it broke", "req_1", "a")


def test_no_more_lines_are_kept_than_a_thousand() -> None:
    lines = Lines("a")
    for number in range(MAX_LINES + 1):
        lines.emit(logging.LogRecord("x", logging.INFO, "", 0, str(number), None, None))
    kept = lines.drain()
    assert (len(kept), json.loads(kept[0])["message"]) == (MAX_LINES, "1")
    assert lines.drain() == ()
