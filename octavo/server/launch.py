"""From what a command line says to a server that runs.

Covers: settings from flags and a file, what will be held in memory, loading, the service, its end. Does not cover:
flags and printing (`octavo.cli.serve`), listening (`serve`). Nothing is loaded before the port is ours and all settings
are checked.
"""

from __future__ import annotations

import os
import socket
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from octavo.config.errors import UsageError
from octavo.config.sizes import parse_bytes
from octavo.engine.serving.settings import CHUNK, ServiceSettings, free_memory
from octavo.server.auth import read_keys
from octavo.server.serve import listen, serve
from octavo.server.settings import ServerSettings, fields_from

LOG_LEVELS = ("debug", "info", "warning", "error")


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """What a server will hold: bytes of weights as they are loaded, and at most of cache; tokens that the cache is for
    (compressed entries of all sequences; each takes a window more); the longest sequence; free bytes before."""

    model: str
    weights: str
    weight_bytes: int
    cache_bytes: int
    cache_tokens: int
    context: int
    free_bytes: int
    documents: str | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """A server about to start."""

    model: str
    settings: ServerSettings
    device: str
    weights: str | None
    index_levels: int | None
    log_level: str
    holding: Holding

    @classmethod
    def of(
        cls, model: str, flags: Mapping[str, Any], *, key_file: str | None, file: str | None, device: str,
        weights: str | None,
    ) -> Launch:  # fmt: skip
        """Check everything that can be checked before anything is loaded. `flags` that are None leave the word to
        `file`, a TOML file of `ServerSettings` fields, log_level and index_levels. UsageError, LimitError."""
        given = {} if file is None else _read(Path(file))
        level, index_levels = given.pop("log_level", "info"), given.pop("index_levels", None)
        if level not in LOG_LEVELS:
            raise UsageError(f"log_level is {level!r}; it must be one of {', '.join(LOG_LEVELS)}")
        if index_levels not in (None, 1, 2):
            raise UsageError(f"index_levels is {index_levels!r}; it must be 1 or 2")
        if device != "cpu" and device.split(":")[0] != "cuda":
            raise UsageError(f"device is {device!r}; it must be cpu or cuda")
        named = {"documents": "documents_folder", "cache": "cache_bytes"}
        flags = {named.get(name, name): value for name, value in flags.items() if value is not None}
        if "cache_bytes" in flags:
            flags["cache_bytes"] = parse_bytes(flags["cache_bytes"], name="cache")
        fields = fields_from({**given, **flags})
        settings = ServerSettings(**fields, api_keys=read_keys(key_file, os.environ))
        return cls(
            model=model, settings=settings, device=device, weights=weights, index_levels=index_levels, log_level=level,
            holding=_holding(model, settings, device, weights),
        )  # fmt: skip

    def run(self, *, on_listening: Callable[[str, Holding], None]) -> None:
        """Listen, load, serve until a signal ends it."""
        with listen(self.settings) as listening:
            import octavo
            from octavo.engine.serving.library import Library
            from octavo.engine.serving.service import Service

            llm = octavo.load(self.model, weights=self.weights, index_levels=self.index_levels, **self._placed())
            given = self.settings
            limits: dict[str, Any] = {} if given.shelf_bytes is None else {"disk_bytes": given.shelf_bytes}
            service = Service(
                llm,
                ServiceSettings(
                    max_running=given.max_running, max_queue=given.max_queue, cache_bytes=given.cache_bytes,
                    folder=given.shelf_folder, **limits,
                ),
                library=Library(llm, given.documents_folder),
            )  # fmt: skip
            url = _url(listening)
            serve(
                service, given, listening, log_level=self.log_level,
                on_listening=lambda: on_listening(url, self.holding),
            )  # fmt: skip

    def _placed(self) -> dict[str, Any]:
        """Keyword arguments of `octavo.load` for the device; on a GPU the cache is one slab of its final size."""
        if self.device == "cpu":
            return {"chunk": CHUNK}
        tokens = {} if self.settings.cache_bytes is None else {"capacity_tokens": self.holding.cache_tokens}
        return {"device": self.device, "dtype": "bfloat16", **tokens}


def _holding(model: str, settings: ServerSettings, device: str, weights: str | None) -> Holding:
    from octavo.cache.layout import PAGE_TOKENS, CacheLayout, RowFormat
    from octavo.config.counts import count
    from octavo.config.model import ModelConfig
    from octavo.engine.locate import locate

    config = ModelConfig.from_json(locate(model, files=("config.json",)) / "config.json")
    element, rows = (4, RowFormat.FP32) if device == "cpu" else (2, RowFormat.BF16)
    free = free_memory()
    cache = settings.cache_bytes or free // 2
    return Holding(
        model=settings.served_name or model,
        weights=weights or ("fp32" if device == "cpu" else "bf16"),
        weight_bytes=sum(count(config).by_part.values()) * element,
        cache_bytes=cache,
        cache_tokens=cache // CacheLayout(config, rows, rows).page_bytes * PAGE_TOKENS,
        context=config.max_position_embeddings,
        free_bytes=free,
        documents=None if settings.documents_folder is None else str(settings.documents_folder),
    )


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        raise UsageError(f"{file}: the settings cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} is not TOML: {error}") from None


def _url(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
