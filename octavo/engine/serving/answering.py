"""A prompt and its answer, as tasks.

Covers: taking a shared prefix, reading the prompt in chunks, one token after the other, what is told on the way. Does
not cover: the loop over tokens (`octavo.engine.generation`), when a task runs (`service`).

On the CPU chunks end at the same places whatever runs beside them, and each is computed on one core by the same
operations, so the answer to a prompt does not depend on what else the service does, nor on how much of the prompt was
in the cache. On a GPU chunks are shorter while answers go on beside them, and a step of several answers rounds
otherwise than one alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from octavo.cache.state import SequenceState
from octavo.config.errors import BusyError, DocumentError, LimitError
from octavo.engine.answer import Prefix
from octavo.engine.document import Document
from octavo.engine.generation import Generation, Rule
from octavo.engine.mapping import attention_map
from octavo.engine.serving.events import Ended, JobUsage, Last, Piece, Reading, Scored, Token
from octavo.engine.serving.hits import Hits
from octavo.engine.serving.job import Job
from octavo.engine.serving.ruling import Both
from octavo.engine.serving.scoring import PromptScores, scored
from octavo.engine.serving.shelf import Shelf
from octavo.engine.serving.work import Tell, Watch
from octavo.model.stretch import Row, Stretch

if TYPE_CHECKING:
    from octavo.engine.llm import LLM


_PART = 4096


class Answering:
    """The work of one `Job`; see `Work`."""

    def __init__(
        self, llm: LLM, job: Job, tell: Tell, *, hits: Hits, document: Document | None = None, key: str = "",
        rule: Rule | None = None,
    ) -> None:  # fmt: skip
        """`document` is what `job.document` names, `key` tells it from others; `rule` is what its grammar and
        `no_calls` allow (`ruling.rule_of`).

        Raises LimitError for an id outside the vocabulary.
        """
        self.id, self.job, self.tell, self.watch = job.id, job, tell, Watch(job.seconds)
        self._llm, self.document, self._hits = llm, document, hits
        front = np.empty(0, dtype=np.int32) if document is None else document.state.tokens
        self.before = len(front)
        self._ids = np.concatenate([front, _checked(job.prompt, llm.config.vocab_size)])
        self._root = f"{key}|{job.salt}"
        self._naming = hits.naming(self._root, self._ids, base=self.before)
        quotation = document.quotation(job.quote) if document is not None and job.grammar is None else None
        self._rule = Both(quotation, rule) if quotation is not None and rule is not None else quotation or rule
        self._tally = document.tally() if document is not None and job.sources else None
        self._state: SequenceState | None = None
        self._made: Generation | None = None
        self._tokens: list[Token] = []
        scores = job.prompt_logprobs
        self._scores = None if scores is None else PromptScores(job.prompt, scores, llm.tokenizer)
        self._prefix, self._cached, self._saved = Prefix.NONE, 0, 0
        self.total, self.most = len(job.prompt), job.request.max_tokens

    def start(self) -> tuple[int, int]:
        self.watch.started = self.watch.now()
        last = len(self._ids) - 1  # at least one token is read, whose row the answer begins with
        try:
            self._state, self._prefix = self._begun(last if self._scores is None else self.before)
        except LimitError as error:  # others hold the pages that its document needs; what never fits is refused before
            raise BusyError(f"there is no room for the document now: {error}") from None
        self._cached = self._state.length
        self._points = frozenset(self._hits.points(self._cached, last))
        # A GPU's kernels read pages of the pool alone: those of a file are copied, and are the job's own then.
        copied = sum(run.count for run in self._state.runs if run.slab.adopted) if self._llm.pool.fixed else 0
        return self._cached - self.before, max((self._cached - self.before) // self._hits.page - copied, 0)

    def read(self, count: int, *, workers: int) -> bool:
        state, chunk = self._held(), self._llm.runner.chunk
        stop = state.length + count
        over = stop == len(self._ids)
        cut = (stop - 1) // chunk * chunk if over else stop
        if cut > state.length and self._scores is None:
            self._llm.runner.read(self._ids[state.length : cut], state, after=self._after, workers=workers)
        while state.length < cut:
            self._score(state, min((state.length // chunk + 1) * chunk, cut))
            self._after(state)
        if not over:
            return False
        if self._scores is not None:
            # In a fork: the answer begins behind the same steps as without scores.
            with closing(state.fork()) as fork:
                self._score(fork, len(self._ids))
            self.tell(Scored(id=self.id, tokens=tuple(self._scores.tokens)))
            self._scores = None
        self._made = Generation(
            self._llm.runner, self._llm.tokenizer, state, self._ids[state.length :].tolist(), self.job.request,
            tally=self._tally, quotation=self._rule, look=None if self.job.top_logprobs is None else self._look,
        )  # fmt: skip
        return self.answer(1)[1]

    def beside(self) -> tuple[Stretch, int] | None:
        return None if self._made is None else self._made.beside()

    def answer(self, steps: int, row: Row | None = None) -> tuple[int, bool]:
        made, done = self._made, 0
        assert made is not None
        while done < steps and made.finish is None:
            self.watch.check()
            before = len(made.token_ids)
            text = made.advance(row)
            row, done = None, done + 1
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
        self._state, self._saved = None, state.length
        state.close()

    def restore(self, shelf: Shelf) -> None:
        document = None if self.document is None else self.document.state
        try:
            state = shelf.restore_job(self.id, self._llm.new_state(), document=document)
        except DocumentError:  # the shelf has counted and dropped it
            state = self._again()
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
        made = self._made
        return JobUsage(
            prompt_tokens=len(self._ids),
            cached_tokens=self._cached,
            answer_tokens=0 if made is None else len(made.token_ids),
            drafted_tokens=0 if made is None else made.drafted_tokens,
            accepted_tokens=0 if made is None else made.accepted_tokens,
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

    def _begun(self, most: int) -> tuple[SequenceState, Prefix]:
        """The longest state there is of at most the first `most` tokens."""
        found = self._hits.find(self._root, self._ids, base=self.before, most=most)
        if found is not None:
            return found
        if self.document is not None:
            return self.document.fork(), Prefix.MEMORY
        return self._llm.new_state(), Prefix.NONE

    def _score(self, state: SequenceState, stop: int) -> None:
        """Read up to token `stop`, and score the prompt's tokens behind those that are read."""
        assert self._scores is not None
        self._scores.take(self._llm.runner.step(self._ids[state.length : stop], state, all_rows=True).logits)

    def _again(self) -> SequenceState:
        """What was saved and is lost, from its tokens, in the same steps: so, on the CPU, in the same bits."""
        runner, total = self._llm.runner, len(self._ids)
        stop = min(self._saved, (total - 1) // runner.chunk * runner.chunk)
        state, _ = self._begun(max(stop, self.before))
        self._state = state  # from now on it is given back, whatever happens
        runner.read(self._ids[state.length : stop], state, after=lambda _: self.watch.check(), workers=1)
        made = [] if self._made is None else self._made.token_ids[:-1]
        parts = [self._ids[state.length : min(self._saved, total)], *(np.array([token]) for token in made)]
        for part in parts:
            self.watch.check()
            if len(part):
                runner.step(part, state)
        assert state.length == self._saved
        return state

    def _held(self) -> SequenceState:
        assert self._state is not None, "the job has not started"
        return self._state

    def _after(self, state: SequenceState) -> None:
        if state.length in self._points:
            self._hits.add(self._root, state, base=self.before, trail=self._naming.upto(state.length))
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
