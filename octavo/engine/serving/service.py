"""Many jobs over one model, on as many threads as there are cores.

Covers: taking jobs in, the threads (lanes) that run what the scheduler gives them, pages, cancelling, draining, numbers
for those who watch. Does not cover: what a task does (`answering`, `reading`), which comes next (`scheduler`), HTTP.

A lane is a thread that runs one task at a time on one core: a chunk of a prompt, or a token of each of several answers
(`outcome`). So a long prompt is read on one core while answers go on on the other, and neither waits for the other; a
prompt that nobody answers beside is read on all of them. Lanes share the model, whose weights nobody writes, and the
pool of pages, which locks itself. The service's own lock is held while it is decided what runs, never while the model
runs. On a GPU there is one lane: chunks and tokens take turns, and a step is one of up to 64 answers.

Torch's operations run on one thread each from `start` to `close`, in the whole process: how a product is shared out
among threads shows in its last bits, and on the CPU an answer shall not depend on what runs beside it. On a GPU the
width of a step depends on its neighbours, and so does where the chunks of a prompt end: with both the rounding of BF16.
"""

from __future__ import annotations

import logging
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from octavo.cache.layout import PAGE_TOKENS
from octavo.config.errors import BusyError, LimitError, UsageError
from octavo.engine.folding import header_of
from octavo.engine.serving.answering import Answering
from octavo.engine.serving.cores import Cores
from octavo.engine.serving.events import LATE, Cancelled, Failed, Last
from octavo.engine.serving.garbage import Garbage
from octavo.engine.serving.grammar import Grammars
from octavo.engine.serving.hits import Hits
from octavo.engine.serving.job import Job
from octavo.engine.serving.library import Library
from octavo.engine.serving.outcome import Outcome, answer_all, known, outcome_of
from octavo.engine.serving.reading import ReadingWork
from octavo.engine.serving.ruling import rule_of
from octavo.engine.serving.scheduler import Kind, Rules, Scheduler, Task
from octavo.engine.serving.settings import ServiceSettings
from octavo.engine.serving.shelf import Shelf
from octavo.engine.serving.status import Status
from octavo.engine.serving.work import Tell, Work
from octavo.kernels.index_topk import index_seconds

if TYPE_CHECKING:
    from octavo.engine.llm import LLM
    from octavo.engine.texts import Text

_log = logging.getLogger(__name__)
_IDLE_SECONDS = 0.5  # how long a lane sleeps at most before it looks for late jobs
_COUNT_SECONDS = 0.2
_SWITCH_SECONDS = 0.0002  # a lane waits so long for another's Python: the usual 5 ms are two tokens of a small model
_SHRINK_SECONDS = 1.0
_REST_SECONDS = 60.0  # a document that nobody asked for so long is given up before prefixes are


class Service:
    """A model that serves; see the module docstring. Every method may be called from any thread."""

    def __init__(
        self, llm: LLM, settings: ServiceSettings | None = None, *, library: Library | None = None
    ) -> None:  # fmt: skip
        """Raises UsageError for a model whose chunk is not whole pages, or for several lanes where only one can run it,
        LimitError where memory holds no page."""
        self.llm, self.settings = llm, settings or ServiceSettings()
        if llm.runner.chunk % PAGE_TOKENS:
            raise UsageError(f"chunk is {llm.runner.chunk}; a service needs a multiple of {PAGE_TOKENS} tokens")
        self.library = Library(llm) if library is None else library
        self.lanes = self.settings.lanes or (torch.get_num_threads() if llm.runner.is_shared else 1)
        if self.lanes > 1 and not llm.runner.is_shared:
            raise UsageError(f"lanes is {self.lanes}; a model on a GPU runs in one")
        page_bytes = llm.pool.layout.page_bytes
        self.pages = llm.pool.slab_pages if llm.pool.fixed else self.settings.pages(page_bytes, str(llm.pool.device))
        self._rules = Rules(
            lanes=self.lanes, chunk=llm.runner.chunk, page_tokens=PAGE_TOKENS, total_pages=self.pages,
            max_running=self.settings.max_running, max_queue=self.settings.max_queue,
            together=llm.runner.seat(self.settings.max_running), beside=PAGE_TOKENS if llm.pool.fixed else None,
        )  # fmt: skip
        self._scheduler = Scheduler(self._rules)
        self._temporary = None if self.settings.folder is not None else tempfile.TemporaryDirectory("octavo-swap")
        folder = Path(self._temporary.name) if self._temporary is not None else self.settings.folder
        assert folder is not None
        self.shelf = Shelf(folder, header_of(llm), max_bytes=self.settings.disk_bytes, chunk=llm.runner.chunk)
        kept = None if self._temporary is not None else self.shelf
        self.hits = Hits(llm.new_state, chunk=llm.runner.chunk, shelf=kept)
        self.grammars = Grammars(llm.tokenizer, eos=llm.config.eos_token_id)
        self._change = threading.Condition()
        self._works: dict[str, Work] = {}
        self._threads: list[threading.Thread] = []
        self._before: tuple[int, float] | None = None  # torch's threads and Python's interval while it does not run
        self._totals = Status(pages_total=self.pages, page_bytes=page_bytes)
        self._draining = self._closed = False
        self._garbage = Garbage()
        self._idle = self._working = 0  # lanes that sleep, and that run a task
        given = self.settings.prefix_bytes
        self._prefix_bytes = self.pages * page_bytes // 2 if given is None else given
        self._shrunk = 0.0
        self._counted = (0, 0.0)  # pages of kept prefixes, and when they were counted

    # -- for callers ---------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the lanes; torch runs each operation on one thread until `close`. Before, the steps of a GPU are made
        ready (`ServiceSettings.warm_seconds`)."""
        if self.settings.warm_seconds and self.llm.pool.fixed:
            began = time.monotonic()
            made = self.llm.runner.warm(self.settings.warm_seconds)
            _log.info("%d steps were made ready in %.1f s", made, time.monotonic() - began)
        self._before = torch.get_num_threads(), sys.getswitchinterval()
        torch.set_num_threads(1)
        sys.setswitchinterval(_SWITCH_SECONDS)
        self._garbage.begin()
        self.llm.pool.relieve = lambda pages: self._make_room(min(pages, max(1, self.pages // 64)))
        cores = Cores(self.lanes)
        self._threads = [
            threading.Thread(target=self._run_lane, args=(i, cores), name=f"octavo-lane-{i}", daemon=True)
            for i in range(self.lanes)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, job: Job, tell: Tell) -> None:
        """Take a job in; its events go to `tell`, which must return at once. Raises, before any event, LimitError where
        it can never fit, BusyError where there is no room now, MissingError for its document, UsageError for an id that
        is taken or a grammar that is none."""
        document, key = (None, "") if job.document is None else self.library.open(job.document)
        try:
            before = 0 if document is None else len(document)
            self.llm.runner.check_room(len(job.prompt), before, what="the prompt")
            whole = -(-before // PAGE_TOKENS)
            if self.llm.pool.fixed and whole >= self.pages:  # all of it is copied there, and the answer goes on behind
                raise LimitError(f"document {job.document!r} takes {whole:,} pages; the cache has {self.pages:,}")
            self.llm.runner.draft_count(job.request.draft)
            rule = rule_of(job, self.grammars)
            work = Answering(self.llm, job, tell, document=document, key=key, hits=self.hits, rule=rule)
            self._take_in(work, job.priority)
        except BaseException:
            if document is not None:
                self.library.leave(document)
            raise

    def read(self, id: str, name: str, texts: Sequence[Text], tell: Tell, *, priority: int = -10) -> None:
        """Read texts into the library as the document `name`; cutting them into tokens takes a moment. Errors as for
        `submit`, and TextError for what is no text."""
        work = ReadingWork(self.llm, self.library, id, name, texts, tell)
        try:
            self._take_in(work, priority)
        except BaseException:
            work.close()
            raise

    def cancel(self, id: str, why: str = "cancelled by its client") -> None:
        """Give a job up: at once where it waits, else behind the token or chunk that is being computed."""
        with self._change:
            work = self._works.get(id)
            if work is None:
                return
            work.watch.give_up(why)
            if self._scheduler.busy(id):
                return
            self._forget(id)
        self._cancelled(work)

    @property
    def failure(self) -> str | None:
        """Why nothing can be answered any more, None else."""
        return self.llm.failure

    def status(self) -> Status:
        """Numbers of this moment."""
        documents, kept = len(self.library.names()), self.hits.held()  # not under the lock: names ask the disk
        with self._change:
            counts, on_cpu = self._scheduler.counts(), self.llm.pool.device.type == "cpu"
            return replace(
                self._totals,
                running=counts.answering + counts.reading,
                waiting=counts.waiting,
                reading=counts.reading,
                swapped=counts.swapped,
                documents=documents,
                pages_used=self.llm.pool.allocator.used,
                prefix_pages=kept,
                draining=self._draining,
                index=index_seconds() if on_cpu else None,
            )

    def close(self, *, drain_seconds: float = 0.0) -> None:
        """Take no new jobs, let those under way go on for so long, cancel the rest, stop the lanes. Twice is fine."""
        with self._change:
            self._draining = True
            self._change.wait_for(lambda: not self._works, timeout=drain_seconds)
            left = list(self._works)
        for id in left:
            self.cancel(id, "the service ends")
        with self._change:
            self._change.wait_for(lambda: not self._works)
            self._closed = True
            self._change.notify_all()
        for thread in self._threads:
            thread.join()
        if self._before is not None:
            threads, interval = self._before
            self._before = None
            torch.set_num_threads(threads)
            sys.setswitchinterval(interval)
            self._garbage.end()
        self.llm.pool.relieve = None
        self.hits.close()
        self.library.close()
        self.shelf.close()
        self.grammars.close()
        if self._temporary is not None:
            self._temporary.cleanup()

    def check_integrity(self) -> None:
        """AssertionError where the scheduler's or the pages' accounts are wrong, or an idle service holds pages that no
        kept prefix or document explains."""
        with self._change:
            self._scheduler.check_integrity()
            self.llm.pool.allocator.check_integrity()
            if not self._works:
                self.hits.settle()
                used, kept = self.llm.pool.allocator.used, self.hits.held() + self.library.pages()
                assert used == kept, f"{used} pages are held, {kept} of them explained"

    # -- taking in and giving up ---------------------------------------------------------------------------------------

    def _take_in(self, work: Work, priority: int) -> None:
        with self._change:
            if self._draining:
                raise BusyError("the service is going down; it takes no more requests", retry_after=30.0)
            if work.id in self._works:
                raise UsageError(f"job id {work.id!r} is under way already")
            self._scheduler.add(work.id, prompt=work.total, most=work.most, priority=priority, before=work.before)
            self._works[work.id] = work
            self._change.notify()

    def _forget(self, id: str) -> None:
        """Under the lock: the job is over for the scheduler."""
        self._scheduler.remove(id)
        del self._works[id]
        self._change.notify_all()

    # -- lanes ---------------------------------------------------------------------------------------------------------

    def _run_lane(self, lane: int, cores: Cores) -> None:
        torch.set_num_threads(1)
        device = self.llm.pool.device
        if device.type == "cuda" and device.index is not None:
            torch.cuda.set_device(device)  # of this thread: kernels are launched on the current one
        while True:
            if self._garbage.due(idle=not self._works):
                self._garbage.look()
            with self._change:
                task, late = self._next(), self._late()
                if task is None and not late:
                    if self._closed:
                        return
                    self._idle += 1
                    self._change.wait(_IDLE_SECONDS)
                    self._idle -= 1
                    continue
                works = [] if task is None else [self._works[id] for id in task.ids]
                if self._idle and task is not None and self._more():
                    self._change.notify()
                self._working += task is not None
                apart = self._working == self.lanes
            for id in late:
                self.cancel(id, LATE)
            if task is not None:
                cores.take(lane, apart=apart)
                self._run(task, works)
                with self._change:
                    self._working -= 1

    def _next(self) -> Task | None:
        """Under the lock: what a lane runs next. Pages that it may need are made free."""
        if self._closed:
            return None
        used = self.llm.pool.allocator.used
        kept = self._kept() if 2 * used > self.pages else 0  # counting them takes a moment
        task = self._scheduler.next(free_pages=self.pages - used + kept)
        if task is not None and task.kind in (Kind.READ, Kind.ANSWER):
            short = -(-task.count // PAGE_TOKENS) + 1 - (self.pages - used)
            if short > 0:
                self._make_room(short)
        return task

    def _make_room(self, pages: int) -> int:
        """Give up documents that nobody asked for a minute, then kept prefixes, then other documents that nobody asks,
        until about `pages` pages are free; how many were freed."""
        freed = self.library.make_room(pages, rested=_REST_SECONDS)
        freed += self.hits.make_room(pages - freed) if freed < pages else 0
        return freed + (self.library.make_room(pages - freed) if freed < pages else 0)

    def _more(self) -> bool:
        """Under the lock: whether another lane may find work too. One that wakes for nothing takes time from the
        others, so it is not woken by every token."""
        counts = self._scheduler.counts()
        return counts.waiting + counts.reading + counts.answering + counts.swapped > counts.busy

    def _kept(self) -> int:
        """Pages that kept prefixes and idle documents could give up, counted a few times a second; the last number
        while a document is opened."""
        counted, when = self._counted
        if time.monotonic() - when > _COUNT_SECONDS and (idle := self.library.idle()) is not None:
            kept = self.llm.pool.allocator.alone(idle + self.hits.holders()) if idle else self.hits.held()
            self._counted = counted, _ = kept, time.monotonic()
        return counted

    def _late(self) -> list[str]:
        """Jobs that wait, and whose time is over."""
        now = time.monotonic()
        return [
            id for id, work in self._works.items()
            if work.watch.until is not None and now > work.watch.until and not self._scheduler.busy(id)
        ]  # fmt: skip

    def _run(self, task: Task, works: Sequence[Work]) -> None:
        """One task, and what follows from it for each of its jobs."""
        if task.kind is Kind.ANSWER:
            outcomes = answer_all(self.llm.runner, works, task.count)
        else:
            outcomes = [outcome_of(work, lambda work=work: self._do(task, work)) for work in works]
        gone: list[tuple[Work, Outcome]] = []
        with self._change:
            for work, outcome in zip(works, outcomes, strict=True):
                self._scheduler.done(work.id, **outcome.done)
                if outcome.over or outcome.failure is not None or work.watch.why is not None:
                    gone.append((work, outcome))
                    self._forget(work.id)
        for work, outcome in gone:
            self._end(work, outcome)
        if gone and time.monotonic() - self._shrunk > _SHRINK_SECONDS:
            self._shrunk = time.monotonic()
            self.hits.shrink(self._prefix_bytes)

    def _end(self, work: Work, outcome: Outcome) -> None:
        failure = outcome.failure
        if failure is not None:
            self._finish(work, lambda: Failed(id=work.id, error=failure, usage=work.usage()))
        elif outcome.over:
            self._finish(work, work.end)
        else:
            self._cancelled(work)

    def _do(self, task: Task, work: Work) -> tuple[bool, dict[str, int]]:
        """Whether the job is over, and what the scheduler is told."""
        if task.kind is Kind.START:
            read, shared = work.start()
            return False, {"read": read, "shared_pages": shared}
        if task.kind is Kind.READ:
            alone = task.count > self.llm.runner.chunk
            over = work.read(task.count, workers=self.lanes if alone else 1)
            return over, {"read": task.count}
        if task.kind is Kind.SAVE:
            work.save(self.shelf)
            with self._change:
                self._totals = replace(self._totals, swaps=self._totals.swaps + 1)
        else:
            work.restore(self.shelf)
        return False, {}

    def _cancelled(self, work: Work) -> None:
        self._finish(work, lambda: Cancelled(id=work.id, why=work.watch.why or "", usage=work.usage()))

    def _finish(self, work: Work, last: Callable[[], Last]) -> None:
        """Everything is given back, then the job's last event is told."""
        try:
            event = last()
        except Exception as error:
            event = Failed(id=work.id, error=known(error, work.id), usage=work.usage())
        for give_back in (work.close, lambda: self.shelf.drop_job(work.id), lambda: self._leave(work)):
            try:
                give_back()
            except Exception as error:  # the others are given back all the same
                event = Failed(id=work.id, error=known(error, work.id), usage=work.usage())
        with self._change:
            self._totals = self._totals.behind(event)
        try:
            work.tell(event)
        except Exception:  # the listener's fault, which is not to end a lane
            _log.exception("job %s: its last event was not taken", work.id)

    def _leave(self, work: Work) -> None:
        if work.document is not None:
            self.library.leave(work.document)
