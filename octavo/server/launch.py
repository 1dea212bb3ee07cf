"""From what a command line says to a server that runs.

Covers: settings from flags and a file, what will be held in memory, loading, the service, its end. Does not cover:
flags and printing (`octavo.cli.serve`), listening (`serve`), replicas (`replicas`). Nothing is loaded before the port
is ours and all settings are checked.
"""

from __future__ import annotations

import os
import socket
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from octavo.config.errors import LimitError, UsageError
from octavo.config.sizes import parse_bytes
from octavo.engine.serving.settings import CHUNK, GPU_CHUNK, ServiceSettings, free_memory
from octavo.server.auth import read_keys
from octavo.server.serve import listen, serve
from octavo.server.settings import ServerSettings, fields_from
from octavo.server.telemetry import wants_traces

if TYPE_CHECKING:
    from octavo.config.model import ModelConfig
    from octavo.engine.serving.service import Service

LOG_LEVELS = ("debug", "info", "warning", "error")


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """What a server will hold: bytes of weights as they are loaded, and at most of cache; tokens that the cache is for
    (compressed entries of all sequences; each takes a window more); the longest sequence; free bytes before. With
    replicas, bytes and tokens are of each, and there are `replicas_min` to `replicas_max`; without, both are 1. Each of
    several `workers` has `weight_bytes` at most, and a cache of its own of `cache_bytes`."""

    model: str
    weights: str
    weight_bytes: int
    cache_bytes: int
    cache_tokens: int
    context: int
    free_bytes: int
    documents: str | None
    replicas_min: int = 1
    replicas_max: int = 1
    workers: int = 1

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
    ray: bool = False

    @classmethod
    def of(
        cls, model: str, flags: Mapping[str, Any], *, key_file: str | None, file: str | None, device: str,
        weights: str | None, ray: bool = False,
    ) -> Launch:  # fmt: skip
        """Check everything that can be checked before anything is loaded. `flags` that are None leave the word to
        `file`, a TOML file of `ServerSettings` fields, log_level and index_levels; `ray`: as replicas. UsageError,
        LimitError."""
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
        wants_traces(os.environ)
        if ray and settings.documents_folder is None:
            raise UsageError("documents is not given; replicas share their documents through a folder: --documents")
        if ray and device != "cpu" and settings.cache_bytes is None:
            raise UsageError("cache is not given; what GPUs of replicas have free cannot be seen from here: --cache")
        if ray and settings.workers > 1:
            raise UsageError(f"workers is {settings.workers}; each replica holds a whole model in one process")
        return cls(
            model=model, settings=settings, device=device, weights=weights, index_levels=index_levels, log_level=level,
            holding=_holding(model, settings, device, weights, ray=ray), ray=ray,
        )  # fmt: skip

    def run(self, *, on_listening: Callable[[str, Holding], None]) -> None:
        """Listen, load, serve until a signal ends it."""
        with listen(self.settings) as listening:
            url = _url(listening)

            def tell() -> None:
                on_listening(url, self.holding)

            if self.ray:
                from octavo.server.replicas.start import serve_replicas

                return serve_replicas(self, listening, on_listening=tell)
            service = self.service()
            try:
                serve(service, self.settings, listening, log_level=self.log_level, on_listening=tell)
            finally:
                service.llm.close()

    def service(self, rank: int | None = None) -> Service:
        """The model, loaded, and its service, not started. `rank`: which of the replicas it is for, from 0, whose shelf
        is a folder of its own."""
        import octavo
        from octavo.engine.serving.library import Library
        from octavo.engine.serving.service import Service

        llm = octavo.load(
            self.model, weights=self.weights, index_levels=self.index_levels, workers=self.settings.workers,
            **self._placed(),
        )  # fmt: skip
        given, shelf = self.settings, self.settings.shelf_folder
        limits: dict[str, Any] = {} if given.shelf_bytes is None else {"disk_bytes": given.shelf_bytes}
        settings = ServiceSettings(
            max_running=given.max_running, max_queue=given.max_queue, cache_bytes=given.cache_bytes,
            folder=shelf if shelf is None or rank is None else shelf / f"replica-{rank}",
            warm_seconds=given.warm_seconds, **limits,
        )  # fmt: skip
        return Service(llm, settings, library=Library(llm, given.documents_folder))

    @property
    def replica_cpus(self) -> int:
        """Cores of each replica."""
        given = self.settings.replica_cpus
        return max(1, (os.cpu_count() or 1) // self.settings.replicas_max) if given is None else given

    def for_replica(self) -> Launch:
        """What a replica is told: nothing of keys, rates and origins, which are the front's, and a share of the cache
        in bytes."""
        folder, shelf = self.settings.documents_folder, self.settings.shelf_folder
        inner = replace(
            self.settings, host="127.0.0.1", api_keys=(), requests_per_minute=None, tokens_per_minute=None,
            cors_origins=(), cache_bytes=self.holding.cache_bytes,
            documents_folder=None if folder is None else folder.absolute(),
            shelf_folder=None if shelf is None else shelf.absolute(),
        )  # fmt: skip
        local = Path(self.model)
        return replace(self, settings=inner, model=str(local.absolute()) if local.exists() else self.model)

    def _placed(self) -> dict[str, Any]:
        """Keyword arguments of `octavo.load` for the device; on a GPU the cache is one slab of its final size."""
        if self.device == "cpu":
            return {"chunk": CHUNK}
        placed = {"device": self.device, "dtype": "bfloat16", "chunk": GPU_CHUNK}
        return {**placed, "capacity_tokens": self.holding.cache_tokens}


def _holding(
    model: str, settings: ServerSettings, device: str, weights: str | None, *, ray: bool
) -> Holding:  # fmt: skip
    from octavo.cache.layout import PAGE_TOKENS, CacheLayout, RowFormat
    from octavo.config.model import ModelConfig
    from octavo.engine.locate import locate

    config = ModelConfig.from_json(locate(model, files=("config.json",)) / "config.json")
    element, rows = (4, RowFormat.FP32) if device == "cpu" else (2, RowFormat.BF16)
    free, weight_bytes = free_memory("cpu" if ray else device), _weight_bytes(config, settings.workers, element)
    least, most = (settings.replicas_min, settings.replicas_max) if ray else (1, 1)
    # Replicas and workers share a CPU's memory; each has a GPU of its own, which weights and cache fill.
    room = free // 2 // most // settings.workers if device == "cpu" else max(free - weight_bytes, 0) // 2
    page = CacheLayout(config, rows, rows).page_bytes
    cache = room if settings.cache_bytes is None else settings.cache_bytes
    if cache < page:
        given = settings.cache_bytes is not None
        said = f"is {cache:,}" if given else f"is not given, and of {free:,} free bytes {cache:,} are left for it"
        raise LimitError(f"cache_bytes {said}; one page of this model takes {page:,}")
    return Holding(
        model=settings.served_name or model,
        weights=weights or ("fp32" if device == "cpu" else "bf16"),
        weight_bytes=weight_bytes,
        cache_bytes=cache,
        cache_tokens=cache // page * PAGE_TOKENS,
        context=config.max_position_embeddings,
        free_bytes=free,
        documents=None if settings.documents_folder is None else str(settings.documents_folder),
        replicas_min=least,
        replicas_max=most,
        workers=settings.workers,
    )


def _weight_bytes(config: ModelConfig, workers: int, element: int) -> int:
    from octavo.config.counts import count

    if workers == 1:
        return sum(count(config).by_part.values()) * element
    from octavo.engine.spread.shares import share_of

    shares = share_of(config, workers, dtype="float32" if element == 4 else "bfloat16")
    return max(share.nbytes for share in shares)


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
