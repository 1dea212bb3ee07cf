"""`octavo serve`: a model for clients of the OpenAI and Anthropic protocols, and a page at `/`."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tyro.conf import Positional

from octavo.cli.output import put, put_json, size
from octavo.config.errors import UsageError

if TYPE_CHECKING:
    from octavo.server.launch import Holding

_NEEDED = ("fastapi", "uvicorn", "multipart", "prometheus_client", "llguidance")


@dataclass(frozen=True, kw_only=True)
class Command:
    """Answer clients of the OpenAI and Anthropic protocols, and show a page at /. Ctrl-C ends it.

    Listens on this machine only unless --host says otherwise, which needs an api key.
    """

    model: Positional[str] = "octavo-xs"
    """Shipped model, folder or hub id."""
    host: str | None = None
    """Address to listen on; left out: 127.0.0.1."""
    port: int | None = None
    """Port; left out: 8000. 0: any free one."""
    api_key_file: str | None = None
    """File of keys, a line each; left out: the key of OCTAVO_API_KEY, or none."""
    served_name: str | None = None
    """The model's name in requests and answers; left out: its own."""
    documents: str | None = None
    """Folder of .octavo files that are there and that are read; left out: documents live in memory."""
    cache: str | None = None
    """Memory for all sequences and prefixes, as 8GB; left out: half of what is free."""
    max_running: int | None = None
    """Sequences at a time; left out: 64. Further ones wait."""
    device: str = "cpu"
    """cpu or cuda."""
    weights: Literal["int8"] | None = None
    """int8: large ones rounded; smaller, faster with VNNI. A document opens only with the weights that read it."""
    settings: str | None = None
    """TOML file with further settings (limits, rates, origins, log_level, index_levels: see docs/serving.md)."""
    json: bool = False
    """Print one JSON object once the server listens."""

    def run(self) -> None:
        """Say what it will hold, load, serve."""
        if missing := [name for name in _NEEDED if importlib.util.find_spec(name) is None]:
            raise UsageError(f"serve needs {', '.join(missing)}: pip install octavo[serve]")
        from octavo.server.launch import Launch

        names = ("host", "port", "served_name", "documents", "cache", "max_running")
        flags = {name: getattr(self, name) for name in names}
        files = {"key_file": self.api_key_file, "file": self.settings}
        launch = Launch.of(self.model, flags, device=self.device, weights=self.weights, **files)
        if not self.json:
            put(*_lines(launch.holding))
        sys.stdout.flush()
        launch.run(on_listening=self._tell)

    def _tell(self, url: str, holding: Holding) -> None:
        put_json(holding.to_dict() | {"url": url}) if self.json else put(f"listening on {url}")
        sys.stdout.flush()


def _lines(held: Holding) -> list[str]:
    note = ", rounded after loading" if held.weights == "int8" else ""
    return [
        f"{held.model}: weights {size(held.weight_bytes)}{note}, cache up to {size(held.cache_bytes)}",
        f"  which is {held.cache_tokens:,} tokens in all; a sequence has at most {held.context:,}",
        f"  memory free now: {size(held.free_bytes)}; documents: {held.documents or 'in memory'}",
    ]
