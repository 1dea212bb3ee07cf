"""One answer of the completions protocol while it arrives.

Covers: text, log-probabilities of the answer and of an echoed prompt, in the protocol's words and in vLLM's. Does not
cover: the request and the route (`completions`).
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from octavo.engine.serving.events import Ended, Event, Piece, Scored, Token
from octavo.server.protocol.common import finish_reason, prompt_logprobs, shown_logprob, shown_token

_NAMES = ("tokens", "token_logprobs", "top_logprobs", "text_offset")


@dataclass(slots=True, kw_only=True)
class Choice:
    """`take` gives the choices of stream chunks, `whole` that of a body.

    echoed: the prompt's text, where it is to come first. added: tokens in front of the client's own, which an echo
    leaves out. top, prompt_top: alternatives to each token of the answer (and the echo) and, apart from it, of the
    prompt; None for no log-probabilities. is_silent: nothing of the answer is told.
    """

    index: int
    echoed: str = ""
    added: int = 0
    top: int | None = None
    prompt_top: int | None = None
    is_silent: bool = False
    end: Ended | None = None
    _parts: list[str] = field(default_factory=list)
    _told: list[dict[str, Any]] = field(default_factory=list)
    _prompt: tuple[Token, ...] | None = None
    _decoder: codecs.IncrementalDecoder = field(
        default_factory=lambda: codecs.getincrementaldecoder("utf-8")(errors="replace")
    )
    _offset: int = 0

    @property
    def with_logprobs(self) -> bool:
        """Whether tokens are told with their log-probabilities."""
        return self.top is not None

    def take(self, event: Event) -> dict[str, Any] | None:
        """The choice of a stream chunk that an event stands for; the last one has the finish reason."""
        if isinstance(event, Scored):
            self._prompt = event.tokens
            return self._echo(event.tokens[self.added :]) if self.echoed and self.with_logprobs else None
        if isinstance(event, Piece) and not self.is_silent:
            told = [self._logprob(token) for token in event.tokens] if self.with_logprobs else []
            self._told += told
            self._parts.append(event.text)
            return self._choice(event.text, told, None) if event.text or told else None
        if isinstance(event, Ended):
            usage = replace(event.usage, answer_tokens=0) if self.is_silent else event.usage
            self.end = replace(event, usage=usage)
            return self._choice("", [], self._reason) | self._sources()
        return None

    @property
    def whole(self) -> dict[str, Any]:
        """The choice of a body."""
        text = self.echoed + "".join(self._parts)
        made = self._choice(text, self._told, self._reason) | self._sources()
        if self.prompt_top is None or self._prompt is None:
            return made
        kept = [replace(token, top=token.top[: self.prompt_top]) for token in self._prompt]
        return made | {"prompt_logprobs": prompt_logprobs(kept)}

    @property
    def _reason(self) -> str:
        assert self.end is not None, "the job is not over"
        return "length" if self.is_silent else finish_reason(self.end.finish)

    def _echo(self, tokens: Sequence[Token]) -> dict[str, Any]:
        told = [self._logprob(token) for token in tokens]
        self._told += told
        return self._choice(self.echoed, told, None)

    def _choice(self, text: str, told: list[dict[str, Any]], reason: str | None) -> dict[str, Any]:
        logprobs = {name: [one[name] for one in told] for name in _NAMES} if self.with_logprobs else None
        return {"index": self.index, "text": text, "logprobs": logprobs, "finish_reason": reason}

    def _logprob(self, token: Token) -> dict[str, Any]:
        offset, known = self._offset, token.logprob is not None
        self._offset += len(self._decoder.decode(token.text))
        likeliest = {shown_token(text): shown_logprob(value) for _, text, value in token.top[: self.top]}
        return {
            "tokens": shown_token(token.text),
            "token_logprobs": shown_logprob(token.logprob) if known else None,
            "top_logprobs": likeliest if known else None,
            "text_offset": offset,
        }

    def _sources(self) -> dict[str, Any]:
        found = () if self.end is None else self.end.sources
        return {"sources": [asdict(source) for source in found]} if found else {}
