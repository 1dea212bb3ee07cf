"""What a server is told: where it listens, who may ask, how much of everything.

Covers: the values and their limits. Does not cover: reading keys (`auth`), flags (`octavo.cli.serve`), what the service
does with its share (`octavo.engine.serving`). Loads no torch and no web library.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from octavo.config.errors import LimitError, UsageError
from octavo.config.sizes import parse_bytes
from octavo.engine.request import whole

MIB = 2**20
_MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]{0,199}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """The server's settings, checked on construction (UsageError, LimitError).

    api_keys: any of them opens the server; none: no key is asked, which only loopback addresses allow. They are not
    shown when the settings are printed. served_name: the model's name in requests and answers (None: the model's own);
    aliases: further names it answers to. max_body_bytes: of a request; max_upload_bytes: of an uploaded document.
    max_n: sequences of one request. request_seconds: the longest a request may take, None for no limit.
    body_seconds: the longest pause while a request's body arrives. requests_per_minute, tokens_per_minute: of one key
    (without keys, of one address), None for no limit. cors_origins: web pages of these origins may ask. max_queue,
    max_running: jobs that wait and that run; further ones are refused, or wait. cache_bytes: memory for all sequences,
    None for half of what is free. shelf_folder, shelf_bytes: prefixes kept on disk. documents_folder: documents kept on
    disk, None for memory. workers: processes or GPUs that share the model's weights. drain_seconds: what requests under
    way get at the end. warm_seconds: for how long, at most, a GPU's steps are made ready before the first request.
    metrics: whether /metrics is there. docs_page: whether /docs is.

    With replicas only (`octavo serve --ray`; max_running, max_queue, cache_bytes and shelf_bytes are of each):
    replicas_min, replicas_max: how many there are. replica_target: requests under way at each that scaling aims at; one
    that has so many more than the least busy is left alone. replica_cpus: cores of each (None: those of this machine
    shared out among replicas_max). replica_grow_seconds, replica_shrink_seconds: how long there must be too many or too
    few requests. ray_address: a Ray that is there already, None to start one on this machine.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    api_keys: tuple[str, ...] = field(default=(), repr=False)
    served_name: str | None = None
    aliases: tuple[str, ...] = ()
    max_body_bytes: int = 64 * MIB
    max_upload_bytes: int = 256 * MIB
    max_n: int = 16
    request_seconds: float | None = None
    body_seconds: float = 60.0
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    cors_origins: tuple[str, ...] = ()
    max_queue: int = 1024
    max_running: int = 64
    cache_bytes: int | None = None
    shelf_folder: Path | None = None
    shelf_bytes: int | None = None
    documents_folder: Path | None = None
    workers: int = 1
    drain_seconds: float = 30.0
    warm_seconds: float = 60.0
    metrics: bool = True
    docs_page: bool = False
    replicas_min: int = 2
    replicas_max: int = 4
    replica_target: int = 16
    replica_cpus: int | None = None
    replica_grow_seconds: float = 30.0
    replica_shrink_seconds: float = 600.0
    ray_address: str | None = None

    def __post_init__(self) -> None:
        whole("port", self.port, least=0, most=65535)
        for name in ("max_body_bytes", "max_upload_bytes", "max_n", "max_running", "workers"):
            whole(name, getattr(self, name), least=1)
        for name in ("replicas_min", "replica_target"):
            whole(name, getattr(self, name), least=1)
        whole("max_queue", self.max_queue, least=0)
        whole("replicas_max", self.replicas_max, least=self.replicas_min)
        for name in ("requests_per_minute", "tokens_per_minute", "cache_bytes", "shelf_bytes", "replica_cpus"):
            if getattr(self, name) is not None:
                whole(name, getattr(self, name), least=1)
        for name in ("body_seconds", "replica_grow_seconds", "replica_shrink_seconds"):
            _seconds(name, getattr(self, name))
        if self.request_seconds is not None:
            _seconds("request_seconds", self.request_seconds)
        for name in ("drain_seconds", "warm_seconds"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise LimitError(f"{name} is {getattr(self, name)}; it must be a finite number from 0")
        for name in (*self.aliases, *([] if self.served_name is None else [self.served_name])):
            if not _MODEL_NAME.fullmatch(name):
                limit = "letters, digits and . _ : / @ -, at most 200"
                raise UsageError(f"the served name is {name!r}; it must be {limit}")
        for origin in self.cors_origins:
            if origin != "*" and not re.fullmatch(r"https?://[^/\s]+", origin):
                raise UsageError(f"the CORS origin is {origin!r}; it must be * or such as https://example.org")
        for place, key in enumerate(self.api_keys):  # the key itself never stands in a message
            if not key or not key.isascii() or not key.isprintable() or " " in key:
                raise UsageError(f"api key {place + 1} is empty or has characters other than printable ASCII")
        if not self.api_keys and not is_loopback(self.host):
            raise UsageError(
                f"host is {self.host!r}, which others can reach, and there is no api key: "
                "set OCTAVO_API_KEY or give --api-key-file, or listen on 127.0.0.1"
            )


def fields_from(given: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of `ServerSettings` from plain values, as a TOML file has them: lists for tuples, texts for folders, sizes
    such as 8GB.

    UsageError for a field that is unknown or of the wrong type; keys cannot be given so, since such files are shared.
    """
    made: dict[str, Any] = {}
    known = {one.name: one.default for one in fields(ServerSettings) if one.name != "api_keys"}
    for name, value in given.items():
        if name not in known:
            raise UsageError(f"there is no server setting {name!r}; there are {', '.join(known)}")
        if name.endswith("_bytes"):
            value = parse_bytes(value, name=name)
        elif isinstance(known[name], tuple):
            if not isinstance(value, list | tuple) or not all(isinstance(one, str) for one in value):
                raise UsageError(f"{name} is {value!r}; it must be a list of texts")
            value = tuple(value)
        elif name.endswith("_folder"):
            value = Path(_typed(name, value, str)).expanduser()
        elif isinstance(known[name], bool):
            _typed(name, value, bool)
        elif name.endswith("_seconds"):
            _typed(name, value, int, float)
        elif name in ("host", "served_name", "ray_address"):
            _typed(name, value, str)
        made[name] = value
    return made


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _typed(name: str, value: Any, *types: type) -> Any:
    if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
        raise UsageError(f"{name} is {value!r}; it must be {' or '.join(one.__name__ for one in types)}")
    return value


def _seconds(name: str, value: float) -> None:
    if not 0 < value < float("inf"):
        raise LimitError(f"{name} is {value}; it must be a finite number above 0")
