"""Keys: where they come from, how a request carries one, what needs one."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send

from octavo.config.errors import UsageError
from octavo.server.auth import AuthMiddleware, Keys, given_key, read_keys


async def told_caller(scope: Scope, receive: Receive, send: Send) -> None:
    """An application that answers who asks."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": scope["state"]["caller"].encode()})


def key_file(folder: Path, text: str, mode: int = 0o600) -> Path:
    path = folder / "keys"
    path.write_text(text)
    path.chmod(mode)
    return path


def test_keys_of_a_file_come_before_the_environment(tmp_path: Path) -> None:
    path = key_file(tmp_path, "# ours\n\n first \nsecond\n")
    assert read_keys(path, {"OCTAVO_API_KEY": "third"}) == ("first", "second")
    assert read_keys(None, {"OCTAVO_API_KEY": " third\n"}) == ("third",)
    assert read_keys(None, {"OCTAVO_API_KEY": " "}) == ()
    assert read_keys(None, {}) == ()


def test_bad_key_files(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        read_keys(tmp_path / "none", {})
    with pytest.raises(UsageError, match="holds no key"):
        read_keys(key_file(tmp_path, "# nothing\n"), {})
    with pytest.raises(UsageError, match="chmod 600"):
        read_keys(key_file(tmp_path, "first\n", 0o644), {})
    with pytest.raises(UsageError, match="more than 65536 bytes"):
        read_keys(key_file(tmp_path, "x" * 70_000), {})


def test_where_a_key_stands() -> None:
    assert given_key([(b"authorization", b"Bearer  abc ")]) == b"abc"
    assert given_key([(b"authorization", b"bearer abc")]) == b"abc"
    assert given_key([(b"x-api-key", b"abc")]) == b"abc"
    assert given_key([(b"x-api-key", b"abc"), (b"authorization", b"Bearer def")]) == b"def"
    assert given_key([(b"authorization", b"Basic abc")]) is None
    assert given_key([]) is None


def test_find_gives_the_place_of_a_key() -> None:
    keys = Keys(["first", "second"])
    assert keys.find(b"first") == 1
    assert keys.find(b"second") == 2
    assert [keys.find(bad) for bad in (b"", None, b"firs", b"first ", b"first\xff")] == [None] * 5
    assert not Keys([])


@pytest.mark.parametrize(
    ("path", "method", "headers", "status"),
    [
        ("/v1/models", "GET", {}, 401),
        ("/v1/models", "GET", {"authorization": "Bearer wrong"}, 401),
        ("/v1/models", "GET", {"authorization": "Bearer second"}, 200),
        ("/v1/models", "GET", {"x-api-key": "first"}, 200),
        ("/v1/models", "GET", {"x-api-key": ""}, 401),
        ("/metrics", "GET", {}, 401),
        ("/openapi.json", "GET", {}, 401),
        ("/health", "GET", {}, 200),
        ("/ready", "HEAD", {}, 200),
        ("/health", "POST", {}, 401),
        ("/", "GET", {}, 200),
        ("/app.js", "GET", {}, 200),
        ("/health/", "GET", {}, 401),
        ("/app.js/../v1/models", "GET", {}, 401),
        ("/nothing", "GET", {}, 401),
    ],
)
def test_matrix(path: str, method: str, headers: dict[str, str], status: int) -> None:
    client = TestClient(AuthMiddleware(told_caller, keys=["first", "second"], open_paths=["/", "/app.js"]))
    found = client.request(method, path, headers=headers)
    assert found.status_code == status
    if status == 401:
        assert found.headers["www-authenticate"] == "Bearer"
        assert found.json()["error"]["type"] == "authentication_error"


def test_anthropics_paths_answer_in_their_shape() -> None:
    client = TestClient(AuthMiddleware(told_caller, keys=["first"]))
    found = client.post("/v1/messages").json()
    assert (found["type"], found["error"]["type"]) == ("error", "authentication_error")


def test_the_caller_is_the_key_or_the_address() -> None:
    with_keys = TestClient(AuthMiddleware(told_caller, keys=["first", "second"]))
    assert with_keys.get("/x", headers={"x-api-key": "second"}).text == "key 2"
    without = TestClient(AuthMiddleware(told_caller, keys=[]), client=("10.0.0.7", 5))
    assert without.get("/x").text == "address 10.0.0.7"
