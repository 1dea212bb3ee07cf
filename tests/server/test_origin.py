"""Requests of foreign pages are turned away, those of programs and of our own page are not."""

from __future__ import annotations

import pytest

from octavo.server.origin import OriginMiddleware


def layer(*, host: str = "127.0.0.1", has_keys: bool = False, origins: tuple[str, ...] = ()) -> OriginMiddleware:
    async def nothing(scope: object, receive: object, send: object) -> None:
        raise AssertionError("not called")

    return OriginMiddleware(nothing, host=host, has_keys=has_keys, origins=origins)  # type: ignore[arg-type]


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost:8000", "localhost", "[::1]:8000", "127.3.2.1"])
def test_programs_and_the_own_page(host: str) -> None:
    assert layer().problem(host, None) is None
    assert layer().problem(host, f"http://{host}") is None


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "", "http://127.0.0.1:9000", "https://localhost", "http://[broken"]
)
def test_foreign_pages(origin: str) -> None:
    for has_keys in (False, True):
        assert "cors_origins" in str(layer(has_keys=has_keys).problem("127.0.0.1:8000", origin))


def test_a_name_that_was_made_to_point_here() -> None:
    for host in ("evil.example:8000", "evil.example", "", "[broken", "10.0.0.1:8000"):
        assert "only names of this machine" in str(layer().problem(host, None))
        assert "only names of this machine" in str(layer().problem(host, f"http://{host}"))
    assert layer(has_keys=True).problem("octavo.example", None) is None
    assert layer(has_keys=True).problem("octavo.example", "https://octavo.example") is None


def test_origins_that_were_named() -> None:
    named = layer(origins=("https://a.example",))
    assert named.problem("localhost:8000", "https://a.example") is None
    assert named.problem("localhost:8000", "https://b.example") is not None
    assert layer(origins=("*",)).problem("localhost:8000", "https://b.example") is None
    assert layer(origins=("*",)).problem("evil.example", "https://b.example") is not None
