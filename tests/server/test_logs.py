"""Request ids, the access log, failures nobody foresaw."""

from __future__ import annotations

import json
import logging
import logging.config

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send

from octavo.server.logs import JsonLines, LogMiddleware, log_settings, new_id


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """An application that reads its body, fails on request, and answers with its id."""
    body = await Request(scope, receive).body()
    if scope["path"] == "/fail":
        raise ValueError(f"what was said: {body!r}")
    await PlainTextResponse(scope["state"]["request_id"], 404 if scope["path"] == "/none" else 200)(
        scope, receive, send
    )


async def half(scope: Scope, receive: Receive, send: Send) -> None:
    """An application that fails after the first part of its answer."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"half", "more_body": True})
    raise ValueError("on the way")


@pytest.mark.parametrize("given", ["abc-1", "a" * 128, "9:x_y.z"])
def test_good_ids_are_kept(given: str) -> None:
    client = TestClient(LogMiddleware(echo))
    found = client.get("/", headers={"x-request-id": given})
    assert found.text == found.headers["x-request-id"] == given


@pytest.mark.parametrize("given", [None, "", "a" * 129, "a b", "a\n", "é", "{}"])
def test_bad_ids_are_replaced(given: str | None) -> None:
    made = new_id(given)
    assert made.startswith("req_")
    assert len(made) == 36
    assert new_id(given) != made


def test_a_line_for_each_request_without_its_words(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "octavo.server")
    statuses: list[int] = []
    client = TestClient(LogMiddleware(echo, on_error=statuses.append))
    client.post("/none?q=secret-query", content=b"secret-body", headers={"authorization": "Bearer secret-key"})
    (record,) = caplog.records
    line = json.loads(JsonLines().format(record))
    assert (line["method"], line["path"], line["status"], line["is_complete"]) == ("POST", "/none", 404, True)
    assert line["sent_bytes"] == 36
    assert line["seconds"] >= 0
    assert "secret" not in json.dumps(line)
    assert statuses == [404]


def test_an_unforeseen_failure_is_500_without_its_reason(caplog: pytest.LogCaptureFixture) -> None:
    client = TestClient(LogMiddleware(echo))
    found = client.post("/fail", headers={"x-request-id": "my-id"})
    assert found.status_code == 500
    assert "my-id" in found.json()["error"]["message"]
    assert "what was said" not in found.text
    failure = next(record for record in caplog.records if record.levelname == "ERROR")
    line = json.loads(JsonLines().format(failure))
    assert line["request_id"] == "my-id"
    assert "ValueError" in line["traceback"]


def test_half_an_answer_is_not_made_to_look_whole(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "octavo.server")
    with pytest.raises(ValueError, match="on the way"):
        TestClient(LogMiddleware(half)).get("/")
    line = json.loads(JsonLines().format(caplog.records[-1]))
    assert (line["status"], line["is_complete"], line["sent_bytes"]) == (200, False, 4)


def test_the_settings_are_what_logging_takes(capsys: pytest.CaptureFixture[str]) -> None:
    before = {name: logging.getLogger(name).__dict__.copy() for name in ("octavo", "uvicorn", "uvicorn.access")}
    try:
        logging.config.dictConfig(log_settings("info"))
        logging.getLogger("octavo.server.access").info("request", extra={"fields": {"status": 200}})
        logging.getLogger("uvicorn.access").error("not this")
        (line,) = capsys.readouterr().err.splitlines()
        assert json.loads(line)["status"] == 200
    finally:
        for name, state in before.items():
            logging.getLogger(name).__dict__.update(state)
        logging.getLogger("octavo").manager._clear_cache()  # type: ignore[attr-defined]
