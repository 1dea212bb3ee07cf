"""A conversation that goes on, about a document or without one.

Covers: keeping the messages and the state between turns, so that a turn reads only what is new. Does not cover: a
single turn (`chat`), the format (`octavo.text.chat`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from octavo.config.errors import UsageError
from octavo.engine.answer import Prefix, Reply
from octavo.engine.chat import answer_chat
from octavo.text.message import Message

if TYPE_CHECKING:
    from octavo.engine.document import Document
    from octavo.engine.llm import LLM


class Conversation:
    """Turns on one state; `messages` is what was said, in the OpenAI shape. `close` it, or use it in a `with` block."""

    def __init__(
        self, llm: LLM, *, document: Document | None = None, system: str | None = None, **options: Any
    ) -> None:
        """`options`: as for `LLM.chat`, for every turn. Raises UsageError for a system text beside a document."""
        if document is not None and system is not None:
            raise UsageError("a conversation about a document has no system text: the document stands in its place")
        self.llm, self.document, self.options = llm, document, options
        self.messages: list[Message] = [] if system is None else [{"role": "system", "content": system}]
        self._state = llm.new_state() if document is None else document.fork()
        self._base = self._state.length

    def __enter__(self) -> Conversation:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()

    def say(self, text: str, **options: Any) -> Reply:
        """Add what the user says and make the answer to it; after an error or an interrupt nothing was said."""
        return self.reply({"role": "user", "content": text}, **options)

    def reply(self, *messages: Message, **options: Any) -> Reply:
        """Add messages (for example tool answers) and make the assistant's next turn."""
        every = [*self.messages, *messages]
        tally = None if self.document is None else self.document.tally()
        reply = answer_chat(
            self.llm, every, state=self._state, base=self._base, tally=tally, **{**self.options, **options}
        )
        self.messages = [*every, reply.completion.message()]
        if self.document is None or tally is None:
            return reply
        usage = replace(reply.usage, reused_tokens=reply.usage.reused_tokens + self._base, prefix=Prefix.MEMORY)
        return replace(reply, sources=self.document.sources(tally), usage=usage)

    def close(self) -> None:
        """Give the state back."""
        self._state.close()
