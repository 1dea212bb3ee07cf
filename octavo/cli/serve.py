"""`octavo serve`: a model for clients of the OpenAI and Anthropic protocols, and a page at `/`."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tyro.conf import Positional

from octavo.cli.holding import lines
from octavo.cli.output import put, put_json
from octavo.config.errors import UsageError

if TYPE_CHECKING:
    from octavo.server.launch import Holding

_NEEDED = ("fastapi", "uvicorn", "multipart", "prometheus_client", "llguidance")
_NEEDED_BY_RAY = ("ray",)


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
    """TOML file with further settings (limits, rates, origins, replicas, log_level: see docs/serving.md)."""
    ray: bool = False
    """Several replicas on Ray Serve behind one address; needs --documents, and the extra `ray`."""
    json: bool = False
    """Print one JSON object once the server listens."""

    def run(self) -> None:
        """Say what it will hold, load, serve."""
        needed = (*_NEEDED, *(_NEEDED_BY_RAY if self.ray else ()))
        if missing := [name for name in needed if importlib.util.find_spec(name) is None]:
            extras = "serve,ray" if self.ray else "serve"
            raise UsageError(f"serve needs {', '.join(missing)}: pip install octavo[{extras}]")
        from octavo.server.launch import Launch

        names = ("host", "port", "served_name", "documents", "cache", "max_running")
        flags = {name: getattr(self, name) for name in names}
        files = {"key_file": self.api_key_file, "file": self.settings}
        launch = Launch.of(self.model, flags, device=self.device, weights=self.weights, ray=self.ray, **files)
        if not self.json:
            put(*lines(launch.holding))
        sys.stdout.flush()
        launch.run(on_listening=self._tell)

    def _tell(self, url: str, holding: Holding) -> None:
        put_json(holding.to_dict() | {"url": url}) if self.json else put(f"listening on {url}")
        sys.stdout.flush()
