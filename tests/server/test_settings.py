"""Server settings: limits, loopback and keys, plain values from a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from octavo.config.errors import LimitError, OctavoError, UsageError
from octavo.server.settings import MIB, ServerSettings, fields_from, is_loopback


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "example.org"])
def test_a_host_that_others_reach_needs_a_key(host: str) -> None:
    with pytest.raises(UsageError, match=r"OCTAVO_API_KEY.*--api-key-file"):
        ServerSettings(host=host)
    assert ServerSettings(host=host, api_keys=("secret",)).host == host


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("127.8.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("a.b", False)],
)
def test_loopback(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


def test_keys_are_not_shown() -> None:
    settings = ServerSettings(api_keys=("hush-hush",))
    assert "hush" not in repr(settings)
    with pytest.raises(UsageError) as caught:
        ServerSettings(api_keys=("fine", "hush hush"))
    assert "api key 2" in str(caught.value)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"port": 65536}, LimitError, "port is 65536; it must be an integer from 0 to 65535"),
        ({"port": True}, LimitError, "port is True"),
        ({"max_n": 0}, LimitError, "max_n is 0"),
        ({"max_queue": -1}, LimitError, "max_queue is -1"),
        ({"max_body_bytes": 1.5}, LimitError, "max_body_bytes is 1.5"),
        ({"requests_per_minute": 0}, LimitError, "requests_per_minute is 0"),
        ({"request_seconds": float("nan")}, LimitError, "request_seconds is nan"),
        ({"drain_seconds": float("inf")}, LimitError, "drain_seconds is inf"),
        ({"served_name": "a b"}, UsageError, "served name is 'a b'"),
        ({"aliases": ("",)}, UsageError, "served name is ''"),
        ({"cors_origins": ("example.org",)}, UsageError, "CORS origin is 'example.org'"),
        ({"replicas_min": 0}, LimitError, "replicas_min is 0"),
        ({"replicas_min": 3, "replicas_max": 2}, LimitError, "replicas_max is 2; it must be an integer from 3"),
        ({"replica_cpus": 0}, LimitError, "replica_cpus is 0"),
        ({"replica_grow_seconds": 0}, LimitError, "replica_grow_seconds is 0"),
    ],
)
def test_bad_values_name_field_and_limit(fields: dict[str, Any], error: type[OctavoError], message: str) -> None:
    with pytest.raises(error) as caught:
        ServerSettings(**fields)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_plain_values_become_fields() -> None:
    given = {"aliases": ["gpt"], "max_body_bytes": "8MiB", "documents_folder": "/tmp/docs", "metrics": False}
    settings = ServerSettings(**fields_from(given))
    assert settings.aliases == ("gpt",)
    assert settings.max_body_bytes == 8 * MIB
    assert settings.documents_folder == Path("/tmp/docs")
    assert settings.metrics is False


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"api_keys": ["x"]}, "no server setting 'api_keys'"),
        ({"prot": 1}, "no server setting 'prot'"),
        ({"aliases": "gpt"}, "aliases is 'gpt'; it must be a list"),
        ({"metrics": 1}, "metrics is 1; it must be bool"),
        ({"drain_seconds": "5"}, "drain_seconds is '5'; it must be int or float"),
        ({"body_seconds": True}, "body_seconds is True"),
        ({"host": 1}, "host is 1"),
        ({"cache_bytes": "lots"}, "cache_bytes is 'lots'"),
        ({"shelf_folder": 3}, "shelf_folder is 3"),
    ],
)
def test_bad_plain_values(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        fields_from(given)
