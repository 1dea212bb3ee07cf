"""What every protocol needs of the running server.

Covers: the value that routers are made from, which names the served model answers to. Does not cover: making it
(`app`). Loads no torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from octavo.server.bridge import Bridge
from octavo.server.errors import UnknownModelError
from octavo.server.stream import KEEP_ALIVE_SECONDS
from octavo.server.turn import ChatCall, Turns

if TYPE_CHECKING:
    from octavo.engine.serving.service import Service

MAX_N = 16
DEFAULT_MAX_TOKENS = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """The parts of one server. `model` is the served name, `aliases` are others it answers to; `settings` the server's
    own limits, of which protocols read those below where they are there."""

    bridge: Bridge
    turns: Turns
    service: Service
    model: str
    aliases: tuple[str, ...] = ()
    settings: Any = None

    def check_model(self, name: str) -> None:
        """UnknownModelError (404) unless the served model answers to `name`."""
        if name != self.model and name not in self.aliases:
            raise UnknownModelError(f"model {name!r} is not served here; this server has {self.model!r}")

    async def count(self, call: ChatCall) -> int:
        """Tokens of a call's prompt, those of its document included. Errors as where it is asked."""
        prompt = await self.bridge.run_blocking(self.turns.prompt, call)
        before = 0 if call.document is None else self.service.library.info(call.document).tokens
        return before + len(prompt)

    @property
    def fingerprint(self) -> str:
        """What tells these weights from others, as OpenAI's clients are told."""
        return f"fp_{self.service.llm.fingerprint[:16]}"

    @property
    def max_n(self) -> int:
        """Most answers (and prompts) of one request."""
        return getattr(self.settings, "max_n", MAX_N)

    @property
    def default_max_tokens(self) -> int:
        """Most tokens of an answer where the client gives no number."""
        return getattr(self.settings, "default_max_tokens", DEFAULT_MAX_TOKENS)

    @property
    def keep_alive_seconds(self) -> float:
        """A silent stream gets a comment so often."""
        return getattr(self.settings, "keep_alive_seconds", KEEP_ALIVE_SECONDS)

    @property
    def seconds(self) -> float | None:
        """A request may take so long; None for no limit."""
        return getattr(self.settings, "request_seconds", None)
