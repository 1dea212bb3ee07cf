"""A document that is read into the library, as tasks.

Covers: going on with a file that holds its beginning, reading in chunks, writing on the way. Does not cover: the file's
bytes (`octavo.cache.document`), names (`library`), when a task runs (`service`).

A document is read in chunks of the model's runner like everything else in the service. A kill loses what was read since
the last multiple of 4,096 tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from octavo.cache.document import DocumentWriter
from octavo.cache.state import SequenceState
from octavo.config.errors import DocumentError, LimitError
from octavo.engine.answer import Finish, Prefix, Usage
from octavo.engine.document import Document
from octavo.engine.folding import check_sources, header_of
from octavo.engine.serving.events import Ended, JobUsage, Last, Reading
from octavo.engine.serving.library import Library
from octavo.engine.serving.shelf import Shelf
from octavo.engine.serving.work import Tell, Watch
from octavo.engine.texts import Text, Texts
from octavo.model.stretch import Row

if TYPE_CHECKING:
    from octavo.engine.llm import LLM


class ReadingWork:
    """The work of reading `texts` as the document `name`; see `Work`."""

    before, most = 0, 0
    document: Document | None = None

    def __init__(
        self, llm: LLM, library: Library, id: str, name: str, texts: Sequence[Text], tell: Tell
    ) -> None:
        """Cuts the texts into tokens. Raises TextError for what is no text, LimitError for more than the context,
        UsageError for a name that is none or is taken."""
        self.id, self.name, self.tell, self.watch = id, name, tell, Watch()
        self._llm, self._library = llm, library
        self._texts = Texts.encode(list(texts), llm.tokenizer)
        self.total = len(self._texts.ids)
        if self.total > llm.runner.limit:
            raise LimitError(
                f"the document has {self.total:,} tokens; the context of this model ends at {llm.runner.limit:,}"
            )
        self._path = library.begin(name, tokens=self.total, files=tuple(text.name for text in texts))
        self._state: SequenceState | None = None
        self._writer: DocumentWriter | None = None
        self._found = self._saved = 0
        self._ended = False

    def start(self) -> tuple[int, int]:
        self.watch.started = self.watch.now()
        self._state = self._llm.new_state()
        if self._path is not None:
            header = header_of(self._llm)
            there = self._path.exists()
            self._writer = DocumentWriter.resume(self._path, header) if there else DocumentWriter.create(
                self._path, header
            )
            check_sources(self._writer, self._texts)
            self._writer.fill(self._state)
        self._found = self._state.length
        self._tell(self._state)
        return min(self._found, self.total - 1), 0

    def read(self, count: int, *, workers: int) -> bool:
        state = self._held()
        stop = min(state.length + count, self.total)
        self._llm.runner.read(self._texts.ids[state.length : stop], state, after=self._after, workers=workers)
        if state.length < self.total:
            return False
        self._finish(state)
        return True

    def beside(self) -> None:
        return None

    def answer(self, steps: int, row: Row | None = None) -> tuple[int, bool]:
        raise AssertionError("a document that is read answers nothing")

    def save(self, shelf: Shelf) -> None:
        state = self._held()
        shelf.save_job(self.id, state)
        self._state, self._saved = None, state.length
        state.close()

    def restore(self, shelf: Shelf) -> None:
        try:
            self._state = shelf.restore_job(self.id, self._llm.new_state())
        except DocumentError:  # the shelf has counted and dropped it: read again what the document's file has not
            self._state = state = self._llm.new_state()
            if self._writer is not None:
                self._writer.fill(state)
            ids = self._texts.ids[state.length : self._saved]
            self._llm.runner.read(ids, state, after=lambda _: self.watch.check(), workers=1)
        shelf.drop_job(self.id)

    def end(self) -> Last:
        return Ended(id=self.id, finish=Finish.END, usage=self.usage())

    def usage(self) -> JobUsage:
        """What it took so far."""
        return JobUsage(
            prompt_tokens=self.total,
            cached_tokens=self._found,
            prefix=Prefix.SNAPSHOT if self._found else Prefix.NONE,
            queued_seconds=self.watch.started or 0.0,
            seconds=self.watch.now(),
        )

    def close(self) -> None:
        """Give up what is not finished; the file keeps what was read."""
        if self._ended:
            return
        self._ended = True
        try:
            if self._writer is not None:
                try:
                    if self._state is not None and self._state.length:
                        self._writer.finish(self._state)
                finally:
                    self._writer.close()  # on a full disk too: the file stays locked otherwise
        finally:
            if self._state is not None:
                self._state.close()
            self._library.give_up(self.name, self.watch.why or "reading it failed")

    def _finish(self, state: SequenceState) -> None:
        """Hand the document over: its file, which is mapped when it is asked for, or the state itself."""
        self._ended = True
        if self._writer is None:
            usage = Usage(read_tokens=self.total, seconds=self.watch.now(), cache_bytes=state.nbytes)
            self._library.finish(self.name, Document(self._llm, state, self._texts, usage))
            return
        try:
            self._writer.finish(state)
            self._writer.close()
        except BaseException:
            self._ended = False
            raise
        state.close()
        self._library.finish(self.name, None)

    def _after(self, state: SequenceState) -> None:
        if self._writer is not None:
            self._writer.append(state)
        self._tell(state)
        self.watch.check()

    def _tell(self, state: SequenceState) -> None:
        self._library.progress(self.name, done=state.length, nbytes=state.nbytes)
        self.tell(Reading(id=self.id, done=state.length, total=self.total, cache_bytes=state.nbytes))

    def _held(self) -> SequenceState:
        assert self._state is not None, "the job has not started"
        return self._state
