"""A document that the model has read.

Covers: questions on forks of its state, with the places the answer came from; conversations about it; saving. Does not
cover: reading texts (`llm`), the file's bytes (`octavo.cache.document`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from octavo.cache.state import SequenceState
from octavo.cache.view import Controls
from octavo.config.errors import UsageError
from octavo.engine.answer import Answer, Prefix, Reply, Source, Usage
from octavo.engine.attention import MassTally
from octavo.engine.chat import answer_chat
from octavo.engine.conversation import Conversation
from octavo.engine.generation import Generation
from octavo.engine.quoting import Quotation, QuoteRule
from octavo.engine.request import Request, RequestFields
from octavo.engine.sources import SourceRule, find_sources
from octavo.engine.texts import Texts
from octavo.text.message import Message

if TYPE_CHECKING:
    from octavo.engine.llm import LLM


class Document:
    """Texts and the state after reading them; questions go on from forks of it, so it is read once.

    `usage` tells what reading or opening it took, `notice` (a line, or None) that it is only the beginning of its
    texts. Use it in a `with` block, or `close` it, to give its memory back.
    """

    def __init__(
        self, llm: LLM, state: SequenceState, texts: Texts, usage: Usage, *, notice: str | None = None
    ) -> None:
        self.llm, self.state, self.texts, self.usage, self.notice = llm, state, texts, usage, notice
        self._closed = False

    def __enter__(self) -> Document:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()

    def __len__(self) -> int:
        """Tokens, BOS included."""
        return self.state.length

    @property
    def nbytes(self) -> int:
        """Bytes of its cache."""
        return self.state.nbytes

    def ask(
        self,
        question: str,
        *,
        rule: SourceRule | None = None,
        with_sources: bool = True,
        quote: bool | QuoteRule | None = None,
        controls: Controls | None = None,
        on_text: Callable[[str], None] | None = None,
        **request: Unpack[RequestFields],
    ) -> Answer:
        """Answer one question; the document stays as it is.

        `request`: max_tokens=64, temperature=0.0, top_p, top_k, min_p, seed, stop (see `Request`). `rule` chooses the
        sources, `on_text` gets the answer piece by piece, `controls` are for measurements (see `Controls`). `quote`:
        whether the answer is made of the document's own words (see `quoting`); None: as the model was made for. Raises
        TextError for an empty question, LimitError when the question does not fit into what is left of the context.
        """
        started = time.perf_counter()
        prompt = self.question_ids(question)
        with closing(self.fork()) as state:
            tally = self.tally(rule) if with_sources else None
            made = Generation(
                self.llm.runner, self.llm.tokenizer, state, prompt, Request(**request), controls=controls, tally=tally,
                quotation=self.quotation(quote),
            )  # fmt: skip
            for piece in made:
                if on_text is not None:
                    on_text(piece)
            usage = Usage(
                reused_tokens=len(self),
                question_tokens=len(prompt),
                answer_tokens=len(made.token_ids),
                drafted_tokens=made.drafted_tokens,
                accepted_tokens=made.accepted_tokens,
                seconds=time.perf_counter() - started,
                cache_bytes=state.nbytes,
                prefix=self._prefix,
            )
        sources = () if tally is None else self.sources(tally, rule)
        return Answer(
            text=made.text.strip(),
            sources=sources,
            usage=replace(usage, seconds=time.perf_counter() - started),
            finish=made.finish_reason,
            token_ids=tuple(made.token_ids),
            seed=made.seed,
        )

    def ask_many(
        self,
        questions: Sequence[str],
        *,
        rule: SourceRule | None = None,
        with_sources: bool = True,
        quote: bool | QuoteRule | None = None,
        controls: Controls | None = None,
        **request: Unpack[RequestFields],
    ) -> list[Answer]:
        """Answer several questions, each as if it were the only one."""
        return [
            self.ask(question, rule=rule, with_sources=with_sources, quote=quote, controls=controls, **request)
            for question in questions
        ]

    def chat(self, messages: Sequence[Message], *, rule: SourceRule | None = None, **options: Any) -> Reply:
        """The next turn of a conversation about the document; options: see `LLM.chat`. The document is no message."""
        tally = self.tally(rule)
        with closing(self.fork()) as state:
            reply = answer_chat(self.llm, messages, state=state, tally=tally, **options)
        usage = replace(reply.usage, reused_tokens=len(self), prefix=self._prefix)
        return replace(reply, sources=self.sources(tally, rule), usage=usage)

    def quotation(self, quote: bool | QuoteRule | None = None) -> Quotation | None:
        """What allows an answer this document's own words alone; None where it may use any (`quote` as for `ask`)."""
        chosen = self.llm.quotes if quote is None else quote
        if chosen is False:
            return None
        rule = QuoteRule() if chosen is True else chosen
        ids, config = self.texts.ids, self.llm.config
        return Quotation(config, ids, partial(self.llm.borders.inside, ids), {config.eos_token_id}, rule)

    def question_ids(self, question: str) -> list[int]:
        """A question as it follows the document; see `LLM.question_ids`."""
        return self.llm.question_ids(question, after=len(self))

    def tally(self, rule: SourceRule | None = None) -> MassTally:
        """An empty sum of attention over this document's tokens."""
        return MassTally(self.llm.config, len(self.texts.ids), (rule or self.llm.source_rule).mass)

    def sources(self, tally: MassTally, rule: SourceRule | None = None) -> tuple[Source, ...]:
        """The places that a tally points at."""
        return find_sources(self.texts, tally.weights(), rule or self.llm.source_rule)

    def converse(self, **options: Any) -> Conversation:
        """A conversation about this document that keeps its state between turns; options as for `LLM.chat`."""
        return Conversation(self.llm, document=self, **options)

    def fork(self) -> SequenceState:
        """A copy of the state after reading; the caller closes it."""
        self._check_open()
        return self.state.fork()

    def save(self, path: str | Path) -> None:
        """Write the document to a new `.octavo` file; DocumentError when that fails, and then no file is left."""
        from octavo.engine.folding import save_document

        self._check_open()
        save_document(self, Path(path))

    def close(self) -> None:
        """Give the cache back. Closing twice is fine; asking afterwards is an error."""
        if not self._closed:
            self._closed = True
            self.state.close()

    @property
    def _prefix(self) -> Prefix:
        return self.usage.prefix if self.usage.prefix is not Prefix.NONE else Prefix.MEMORY

    def _check_open(self) -> None:
        if self._closed:
            raise UsageError("the document is closed")
