"""`octavo chat`: a conversation, with or without a document. Each line of standard input is a turn of the user."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import octavo
from octavo.cli.documents import open_or_read
from octavo.cli.output import put, put_json, source_lines
from octavo.cli.remote_chat import RemoteConversation, converse
from octavo.cli.turns import turns
from octavo.config.errors import UsageError

if TYPE_CHECKING:
    from octavo.engine.answer import Reply
    from octavo.engine.conversation import Conversation
    from octavo.text.completion import Event


@dataclass(frozen=True, kw_only=True)
class Command:
    """Talk, with or without a document. A line is a turn; end with Ctrl-D."""

    url: str | None = None
    """A running server, as http://localhost:8000, to talk to; no model is loaded here. Its key: OCTAVO_API_KEY."""
    doc: str | None = None
    """An .octavo document or a text to talk about; with --url a document of the server, or a text that it will read."""
    system: str | None = None
    """Words for the model before the first turn; not beside a document, which stands in their place."""
    model: str | None = None
    """Shipped model, folder or hub id; left out: octavo-xs, or the server's."""
    weights: Literal["int8"] | None = None
    """int8: large ones rounded; smaller, faster with VNNI. A document opens only with the weights that read it."""
    offload_experts: str | None = None
    """Memory, as 8GB, for routed experts that stay on disk; left out: all are loaded."""
    thinking: bool = False
    """Let the model reason before it answers."""
    max_tokens: int = 256
    """Most tokens of an answer."""
    temperature: float = 0.0
    """0 takes the likeliest token each time; above it draws."""
    seed: int | None = None
    """Repeats drawn answers; left out: new ones each time."""
    draft: int | None = None
    """Tokens that an MTP block drafts a step, 0 to 7; any number gives the same text. Left out: as suits the model."""
    json: bool = False
    """Print a JSON object a turn: answer, reasoning, sources, usage."""

    def run(self) -> None:
        """Talk until standard input ends."""
        if self.doc is not None and self.system is not None:
            raise UsageError("--system and --doc exclude each other: the document stands in the place of those words")
        options = {name: getattr(self, name) for name in ("system", "thinking", "max_tokens", "temperature", "seed")}
        with self._begin(options) as talk:
            for line in turns():
                reply = talk.say(line, on_event=None if self.json else _stream)
                put_json(_plain(reply)) if self.json else put("", *source_lines(reply.sources))
                sys.stdout.flush()

    def _begin(self, options: dict[str, Any]) -> Conversation | RemoteConversation:
        if self.url is not None:
            here = {name: getattr(self, name) for name in ("weights", "offload_experts", "draft")}
            return converse(self.url, model=self.model, doc=self.doc, here=here, **options)
        model = octavo.load(self.model or "octavo-xs", weights=self.weights, offload_experts=self.offload_experts)
        model.runner.draft_count(self.draft)  # drafts it cannot make are refused before a text is read
        speaker = model.converse if self.doc is None else open_or_read(model, [self.doc]).converse
        return speaker(draft=self.draft, **options)


def _plain(reply: Reply) -> dict[str, Any]:
    sources, usage = [asdict(source) for source in reply.sources], asdict(reply.usage) | {"finish": str(reply.finish)}
    return {"answer": reply.text, "reasoning": reply.completion.reasoning, "sources": sources, "usage": usage}


def _stream(event: Event) -> None:
    print(getattr(event, "text", ""), end="", flush=True)
