"""A prompt and its answer, as tasks.

Covers: taking a shared prefix, reading the prompt in chunks, one token after the other, what is told on the way. Does
not cover: the loop over tokens (`octavo.engine.generation`), when a task runs (`service`).

Chunks end at the same places whatever runs beside them, and each is computed on one core by the same operations, so the
answer to a prompt does not depend on what else the service does, nor on how much of the prompt was in the cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from octavo.cache.state import SequenceState
from octavo.config.errors import LimitError
from octavo.engine.answer import Prefix
from octavo.engine.document import Document
from octavo.engine.generation import Generation, Rule
from octavo.engine.mapping import attention_map
from octavo.engine.serving.events import Ended, JobUsage, Last, Piece, Reading, Token
from octavo.engine.serving.grammar import Matcher
from octavo.engine.serving.hits import Hits
from octavo.engine.serving.job import Job
from octavo.engine.serving.scoring import scored
from octavo.engine.serving.shelf import Shelf
from octavo.engine.serving.work import Tell, Watch

if TYPE_CHECKING:
    from octavo.engine.llm import LLM
    from octavo.model.block import BlockReport


_PART = 4096


class Answering:
    """The work of one `Job`; see `Work`."""

    def __init__(
        self, llm: LLM, job: Job, tell: Tell, *, hits: Hits, document: Document | None = None, key: str = "",
        rule: Matcher | None = None,
    ) -> None:  # fmt: skip
        """`document` is what `job.document` names, `key` tells it from others; `rule` is what its grammar allows.

        Raises LimitError for an id outside the vocabulary.
        """
        self.id, self.job, self.tell, self.watch = job.id, job, tell, Watch(job.seconds)
        self._llm, self.document, self._hits = llm, document, hits
        front = np.empty(0, dtype=np.int32) if document is None else document.state.tokens
        self.before = len(front)
        self._ids = np.concatenate([front, _checked(job.prompt, llm.config.vocab_size)])
        self._root = f"{key}|{job.salt}"
        self._rule: Rule | None = document.quotation(job.quote) if rule is None and document is not None else None
        if rule is not None:
            self._rule = _Ruled(rule, job.grammar_after)
        self._tally = document.tally() if document is not None and job.sources else None
        self._state: SequenceState | None = None
        self._made: Generation | None = None
        self._tokens: list[Token] = []
        self._prefix, self._cached = Prefix.NONE, 0
        self.total, self.most = len(job.prompt), job.request.max_tokens

    def start(self) -> tuple[int, int]:
        self.watch.started = self.watch.now()
        last = len(self._ids) - 1  # at least one token is read, whose row the answer begins with
        found = self._hits.find(self._root, self._ids, base=self.before, most=last)
        if found is not None:
            self._state, self._prefix = found
        elif self.document is not None:
            self._state, self._prefix = self.document.fork(), Prefix.MEMORY
        else:
            self._state = self._llm.new_state()
        self._cached = self._state.length
        self._points = frozenset(self._hits.points(self._cached, last))
        return self._cached - self.before, (self._cached - self.before) // self._hits.page

    def read(self, count: int, *, workers: int) -> bool:
        state, chunk = self._held(), self._llm.runner.chunk
        stop = state.length + count
        over = stop == len(self._ids)
        cut = (stop - 1) // chunk * chunk if over else stop
        if cut > state.length:
            self._llm.runner.read(self._ids[state.length : cut], state, after=self._after, workers=workers)
        if not over:
            return False
        self._made = Generation(
            self._llm.runner, self._llm.tokenizer, state, self._ids[state.length :].tolist(), self.job.request,
            tally=self._tally, quotation=self._rule, look=None if self.job.top_logprobs is None else self._look,
        )  # fmt: skip
        return self.answer(1)[1]

    def answer(self, steps: int) -> tuple[int, bool]:
        made, done = self._made, 0
        assert made is not None
        while done < steps and made.finish is None:
            self.watch.check()
            before = len(made.token_ids)
            text = made.advance()
            done += 1
            new = self._tokens or [self._token(token) for token in made.token_ids[before:]]
            self._tokens = []
            if self.watch.first is None:
                self.watch.first = self.watch.now()
            if text or new:
                self.tell(Piece(id=self.id, text=text, tokens=tuple(new)))
        return done, made.finish is not None

    def save(self, shelf: Shelf) -> None:
        if self._made is not None:
            self._made.close()
        state = self._held()
        shelf.save_job(self.id, state, base=self.before)
        self._state = None
        state.close()

    def restore(self, shelf: Shelf) -> None:
        document = None if self.document is None else self.document.state
        state = shelf.restore_job(self.id, self._llm.new_state(), document=document)
        shelf.drop_job(self.id)
        self._state = state
        if self._made is not None:
            self._made.move(state)

    def end(self) -> Last:
        made = self._made
        assert made is not None
        sources, drawn = (), None
        if self._tally is not None and self.document is not None:
            sources = self.document.sources(self._tally)
            if self.job.bins is not None:
                drawn = attention_map(self._tally, self.document.texts, self.job.bins)
        return Ended(
            id=self.id, finish=made.finish_reason, usage=self.usage(), sources=sources, map=drawn, stop=made.stop,
            seed=made.seed,
        )  # fmt: skip

    def usage(self) -> JobUsage:
        """What it took so far."""
        return JobUsage(
            prompt_tokens=len(self._ids),
            cached_tokens=self._cached,
            answer_tokens=0 if self._made is None else len(self._made.token_ids),
            prefix=self._prefix,
            queued_seconds=self.watch.started or 0.0,
            first_token_seconds=self.watch.first or 0.0,
            seconds=self.watch.now(),
        )

    def close(self) -> None:
        """Give the state back; a prompt that was read whole may be wanted again after a restart."""
        if self._state is not None:
            self._state.close()
        if self._made is not None and self.watch.why is None:
            self._hits.shelve(self._root, self._ids, base=self.before)

    def _held(self) -> SequenceState:
        assert self._state is not None, "the job has not started"
        return self._state

    def _after(self, state: SequenceState) -> None:
        if state.length in self._points:
            self._hits.add(self._root, state, base=self.before)
        self.tell(Reading(id=self.id, done=state.length, total=len(self._ids), cache_bytes=state.nbytes))
        self.watch.check()

    def _look(self, token: int, logits_V: Tensor) -> None:
        assert self.job.top_logprobs is not None
        self._tokens.append(scored(logits_V, token, self.job.top_logprobs, self._llm.tokenizer))

    def _token(self, token: int) -> Token:
        return Token(id=token, text=self._llm.tokenizer.token_bytes(token))


def _checked(prompt: Sequence[int], vocab_size: int) -> np.ndarray:
    """The ids as int32. A part at a time, since numpy lets no other thread run meanwhile."""
    ids = np.empty(len(prompt), dtype=np.int64)
    for at in range(0, len(prompt), _PART):
        ids[at : at + _PART] = prompt[at : at + _PART]
    wrong = np.flatnonzero((ids < 0) | (ids >= vocab_size))
    if len(wrong):
        place = int(wrong[0])
        raise LimitError(f"prompt[{place}] is {prompt[place]}; ids of this model are 0 to {vocab_size - 1}")
    return ids.astype(np.int32)


class _Ruled:
    """A grammar as a `Rule` of generation; until token `after` came, where there is one, anything goes."""

    def __init__(self, matcher: Matcher, after: int | None) -> None:
        self._matcher, self._after = matcher, after

    def allowed(self, logits_V: Tensor, reports: Sequence[BlockReport]) -> Tensor:
        return logits_V if self._after is not None else self._matcher.mask(logits_V)

    def push(self, token: int) -> None:
        if self._after is None:
            self._matcher.push(token)
        elif token == self._after:
            self._after = None
