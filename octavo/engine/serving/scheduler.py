"""Which job runs next, in integers: continuous batching over a few lanes and a fixed number of pages.

Covers: admission, reading in chunks, fair answering, reservation, saving and restoring of jobs. Does not cover:
tensors, the pages, prefixes, threads, clocks (`service`). Loads no torch; deterministic; the caller holds a lock.

A job goes waiting -> START -> reading (READ ...) -> answering (ANSWER ...) -> removed by the caller. A running job
(started and not swapped) may be SAVEd, then waits swapped until RESTORE. The rules, in the order they are asked:
1. Growth. A job that answers beyond its reservation takes pages that are free and not promised. If there are none it
   is short: it waits for tasks then in flight, then a victim is SAVEd: of the running jobs of lower priority, or equal
   priority and younger, the lowest and then youngest; without one, itself. If no other job runs it goes on, and the
   caller's allocation decides. While a job is short none is admitted. A restored job is no victim before one task.
2. Lanes. While jobs answer, at most `lanes - 1` lanes do anything else; below that, lanes are shared in proportion to
   the jobs that want to start or read and those that answer, at least one each. One lane alternates: after a task that
   is no ANSWER, every job that answers makes one burst (whatever its priority) before the next such task.
3. Admission. Waiting and swapped jobs stand in one line by priority, swapped ones first among equals, then by arrival;
   the first `LOOK` are asked. One that does not fit may be passed `PASSES` times, then none behind it starts. The first
   in line may SAVE running jobs of strictly lower priority, if those make enough room. RESTORE leaves a page for each
   running job, so that their growth does not undo it at once. If nothing runs at all, the first starts even when it
   does not fit (pages may be held from outside): the caller's allocation decides.
4. Reading. Highest priority first, of equals the least left to read; every second READ goes to the oldest of the
   highest priority, every eighth to the oldest of all.
5. Answering. Virtual time: a burst costs `2^20 / 2^(p / 10)` (p: the priority within -40 .. 40), the least time goes
   next. So 10 points double a job's share, and none has less than 1/256 of another's. With it go those whose turn comes
   before it has another one, as many as make equal parts for the lanes that answer, `together` at most.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice

from octavo.config.errors import BusyError, LimitError, UsageError
from octavo.engine.serving.tasks import Counts, Kind, Rules, Task

PASSES = 8
LOOK = 32
OLDEST_EVERY, OLDEST_OF_ALL_EVERY = 2, 8
STRIDE_BITS, PRIORITY_DOUBLES, PRIORITY_CLIP = 20, 10, 40


_State = StrEnum("_State", ["WAITING", "READING", "ANSWERING", "SWAPPED"])


@dataclass(slots=True, kw_only=True)
class _Job:
    id: str
    prompt: int
    most: int
    priority: int
    before: int
    order: int
    state: _State = _State.WAITING
    task: Task | None = None
    serial: int = 0  # of its task
    read: int = 0
    answered: int = 0
    reserved: int = 0  # pages of its own that it may take in all, and
    shared: int = 0  # whole pages that a cached prefix lends it
    holds: bool = False  # its pages are its own by now: not before a first write after START, nor before RESTORE ends
    settled: bool = True  # may be a victim
    passed: int = 0
    short_since: int | None = None  # serial of the newest task when it lacked pages first
    time: int = 0
    joined: int = 0

    @property
    def rank(self) -> tuple[int, int]:
        return self.priority, -self.order

    @property
    def place(self) -> tuple[int, bool, int, str]:
        return -self.priority, self.state is _State.WAITING, self.order, self.id


class Scheduler:
    """Decides what runs next; one writer of every job's state. See the module for the rules."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self._jobs: dict[str, _Job] = {}
        self._running: dict[str, _Job] = {}
        self._busy: dict[str, _Job] = {}
        self._line: list[tuple[int, bool, int, str]] = []
        self._owed: set[str] = set()
        self._arrivals = self._serial = self._reads = self._time = 0

    def add(self, id: str, *, prompt: int, most: int, priority: int = 0, before: int = 0) -> None:
        """A job waits. prompt: tokens to read; most: answer tokens at most; before: tokens of a document in front
        (its pages are not the job's own). LimitError when it could never fit, BusyError when too many wait, UsageError
        when the id is known or a number is out of range."""
        if id in self._jobs:
            raise UsageError(f"id is {id!r}; a job of that id is not over yet")
        if prompt < 1 or most < 0 or before < 0:
            raise UsageError(f"prompt is {prompt}, most {most}, before {before}; they must be at least 1, 0 and 0")
        job = _Job(id=id, prompt=prompt, most=most, priority=priority, before=before, order=self._arrivals)
        need, total = self._span(job, prompt + self._ahead(job)), self.rules.total_pages
        if need > total:
            raise LimitError(f"prompt is {prompt} tokens and needs {need} pages with its answer; there are {total}")
        waiting, limit = self.counts().waiting, self.rules.max_queue
        if waiting >= limit:
            raise BusyError(f"{waiting} jobs wait already; the limit is {limit}")
        self._arrivals += 1
        self._jobs[id] = job
        insort(self._line, job.place)

    def next(self, *, free_pages: int) -> Task | None:
        """Work for one free lane, or None; the job is then busy until `done`. free_pages: pages that could be allocated
        now, free ones and what caches can give up."""
        if self._lanes() >= self.rules.lanes:
            return None
        free = free_pages - sum(job.reserved - self._own(job) for job in self._running.values())
        task = self._relieve(free)
        if task is None and self._may_do_else(self._else_share()):
            task = self._admit(free) or self._read()
        task = task or self._answer()
        if task is None and self._may_do_else(self.rules.lanes - 1):
            task = self._admit(free) or self._read()
        if task is not None:
            self._begin(task)
        return task

    def done(self, id: str, *, read: int = 0, shared_pages: int = 0, answered: int = 0) -> None:
        """The busy job's task is over. read: prompt tokens read, or that a cached prefix gave (START); shared_pages:
        whole pages of the job's own tokens that it shares (START, RESTORE); answered: tokens made, by ANSWER or by the
        READ of the last prompt token."""
        assert id in self._busy, f"{id} is not busy"
        job = self._busy.pop(id)
        task, job.task = job.task, None
        assert task is not None
        limit = {Kind.START: job.prompt, Kind.READ: task.count}.get(task.kind, 0)
        assert min(read, answered, shared_pages, limit - read) >= 0, f"{task}: {read}, {answered}, {shared_pages}"
        job.read += read
        assert not answered or (task.kind in (Kind.READ, Kind.ANSWER) and job.read == job.prompt), f"{task}: {answered}"
        job.answered += answered
        if task.kind is Kind.SAVE:
            insort(self._line, job.place)
        elif task.kind in (Kind.START, Kind.RESTORE):
            whole = (job.before % self.rules.page_tokens + job.read + job.answered) // self.rules.page_tokens
            job.shared = min(shared_pages, whole, job.reserved)
            job.reserved -= job.shared
            job.holds = task.kind is Kind.RESTORE
        elif read or answered:
            job.holds = True
        if job.state is _State.READING and job.read == job.prompt:
            self._join(job)

    def remove(self, id: str) -> None:
        """Forgets a job that is over, failed or cancelled; AssertionError while busy; unknown ids are ignored."""
        assert id not in self._busy, f"{id} is busy"
        job = self._jobs.pop(id, None)
        if job is not None and self._running.pop(id, None) is None:
            self._leave_line(job)
        self._owed.discard(id)

    def busy(self, id: str) -> bool:
        """A task of the job is under way."""
        return id in self._busy

    def known(self, id: str) -> bool:
        """The job was added and not removed."""
        return id in self._jobs

    def counts(self) -> Counts:
        """How many jobs are in each state."""
        states = Counter(job.state for job in self._jobs.values())
        return Counts(busy=len(self._busy), **{str(state.value): states[state] for state in _State})

    def check_integrity(self) -> None:
        """AssertionError where the lists contradict each other."""
        running = {id for id, job in self._jobs.items() if job.state in (_State.READING, _State.ANSWERING)}
        lined = {id for id, job in self._jobs.items() if id not in running and job.task is None}
        busy = {id for id, job in self._jobs.items() if job.task is not None}
        assert (running, busy) == (set(self._running), set(self._busy))
        assert min(self.rules.lanes - self._lanes(), self.rules.max_running - len(running)) >= 0
        assert self._line == sorted(self._jobs[id].place for id in lined)
        assert self._owed <= running
        for id, job in self._jobs.items():
            assert min(job.answered, job.reserved, job.shared, PASSES - job.passed) >= 0, job
            assert job.read == job.prompt if job.state is _State.ANSWERING else 0 <= job.read <= job.prompt, job
            assert id in running or (job.reserved == 0 and not job.holds), job

    def _lanes(self) -> int:
        """Lanes that are busy: jobs of one task have its serial."""
        return len({job.serial for job in self._busy.values()})

    def _span(self, job: _Job, tokens: int) -> int:
        """Pages of the job's first `tokens` own tokens, and one for the copy of a page that is shared in part."""
        return -(-(job.before % self.rules.page_tokens + tokens) // self.rules.page_tokens) + 1

    def _ahead(self, job: _Job) -> int:
        return min(max(job.most - job.answered, 0), max(self.rules.ahead_tokens, self.rules.burst))

    def _need(self, job: _Job) -> int:
        """Pages that START or RESTORE reserves."""
        return min(self._span(job, job.prompt + job.answered + self._ahead(job)), self.rules.total_pages)

    def _own(self, job: _Job) -> int:
        """Of the reserved pages, those that are allocated already."""
        held = self._span(job, job.read + job.answered) - 1 - job.shared if job.holds else 0
        return min(max(held, 0), job.reserved)

    def _growth(self, job: _Job) -> int:
        span = self._span(job, job.prompt + job.answered + self._burst(job))
        return max(span - job.shared - job.reserved, 0)

    def _burst(self, job: _Job) -> int:
        return max(min(self.rules.burst, job.most - job.answered), 1)

    def _in_flight(self, since: int) -> int:
        """Pages that every SAVE gives back, and that other tasks under way, none newer than `since`, may have taken."""
        pages = 0
        for job in self._busy.values():
            saved, older = job.state is _State.SWAPPED, job.serial <= since
            pages += self._span(job, job.read + job.answered) - 1 if saved else older * (job.reserved - self._own(job))
        return pages

    def _lacks(self, job: _Job, need: int, free: int) -> bool:
        """Whether `need` pages are not there, and not only until tasks in flight end."""
        job.short_since = self._serial if job.short_since is None else job.short_since
        return need > free + self._in_flight(job.short_since)

    def _idle(self, state: _State) -> list[_Job]:
        return [job for job in self._running.values() if job.state is state and job.task is None]

    def _relieve(self, free: int) -> Task | None:
        """Grows reservations of jobs that answer; a SAVE where pages for that lack."""
        for job in sorted(self._idle(_State.ANSWERING), key=lambda job: job.rank, reverse=True):
            extra = self._growth(job)
            if extra > free and (len(self._running) > 1 or self._busy):
                lower = [other for other in self._running.values() if other.rank < job.rank]
                victim = self._victim(lower) if lower or len(self._running) == 1 else job
                if self._lacks(job, extra, free) and victim is not None:
                    return Task(kind=Kind.SAVE, id=victim.id)
                continue
            job.short_since = None
            job.reserved += extra
            free -= extra
        return None

    def _victim(self, jobs: Iterable[_Job]) -> _Job | None:
        return min((job for job in jobs if job.task is None and job.settled), key=lambda job: job.rank, default=None)

    def _may_do_else(self, share: int) -> bool:
        """Whether this lane may do something else than answering, when `share` lanes may while jobs answer."""
        answering = [job for job in self._running.values() if job.state is _State.ANSWERING]
        if self.rules.lanes == 1:
            return not any(job.id in self._owed and job.short_since is None for job in answering)
        others = sum(job.task is not None and job.task.kind is not Kind.ANSWER for job in self._busy.values())
        return others < (share if answering else self.rules.lanes)

    def _else_share(self) -> int:
        answering = sum(job.state is _State.ANSWERING for job in self._running.values())
        wanting = len(self._running) - answering + bool(self._line)
        return min(max(self.rules.lanes * wanting // max(wanting + answering, 1), 1), self.rules.lanes - 1)

    def _admit(self, free: int) -> Task | None:
        """START or RESTORE of the first that fits, or a SAVE that makes room for the first in line."""
        if any(job.short_since is not None for job in self._running.values()):
            return None
        passed: list[_Job] = []
        for place in islice(self._line, LOOK):
            job = self._jobs[place[-1]]
            kind, growth = (Kind.START, 0) if job.state is _State.WAITING else (Kind.RESTORE, len(self._running))
            need = self._need(job) + growth
            room = len(self._running) < self.rules.max_running
            alone = not self._running and not self._busy and not passed
            if alone or (room and need <= free):
                for other in passed:
                    other.passed += 1
                return Task(kind=kind, id=job.id)
            if not passed:
                lacks = self._lacks(job, need, free)
                lower = [other for other in self._running.values() if other.priority < job.priority]
                could = free + sum(other.reserved for other in lower) + self._in_flight(0)
                victim = self._victim(lower)
                if room and not lacks:  # what is in flight may be enough: those behind must not take it
                    return None
                if lower and need <= could:
                    return Task(kind=Kind.SAVE, id=victim.id) if victim is not None else None
            if job.passed >= PASSES:
                return None
            passed.append(job)
        return None

    def _read(self) -> Task | None:
        if not (jobs := self._idle(_State.READING)):
            return None
        turn = self._reads + 1
        if turn % OLDEST_OF_ALL_EVERY:
            top = max(job.priority for job in jobs)
            jobs = [job for job in jobs if job.priority == top]
        by_age = turn % OLDEST_EVERY == 0
        job = min(jobs, key=lambda job: (0 if by_age else job.prompt - job.read, job.order))
        rules, start = self.rules, job.before + job.read
        size, parts = (rules.beside or rules.chunk, 1) if self._answers_soon() else (rules.chunk, rules.read_alone)
        end = (start // size + parts) * size
        return Task(kind=Kind.READ, id=job.id, count=min(end - start, job.prompt - job.read))

    def _answers_soon(self) -> bool:
        """Whether a job answers, or will when its task is over."""
        return any(
            job.state is _State.ANSWERING or (job.task is not None and job.read + job.task.count == job.prompt)
            for job in self._running.values()
        )

    def _answer(self) -> Task | None:
        ready = [job for job in self._idle(_State.ANSWERING) if job.short_since is None and self._growth(job) == 0]
        if self.rules.lanes == 1:
            ready = [job for job in ready if job.id in self._owed] or ready
        if not ready:
            return None
        first, *others = sorted(ready, key=lambda job: (job.time, job.joined))[: self._party()]
        others = [job for job in others if job.time < first.time + _stride(first)]
        count = min(map(self._burst, (first, *others)))
        return Task(kind=Kind.ANSWER, id=first.id, count=count, also=tuple(job.id for job in others))

    def _party(self) -> int:
        """Jobs of one ANSWER, so that those that answer make equal parts for the lanes that they may have."""
        if self.rules.together == 1:
            return 1
        answering = sum(job.state is _State.ANSWERING for job in self._running.values())
        others = self._else_share() if self._line or answering < len(self._running) else 0
        return min(-(-answering // max(self.rules.lanes - others, 1)), self.rules.together)

    def _begin(self, task: Task) -> None:
        self._serial += 1
        for id in task.ids:
            job = self._busy[id] = self._jobs[id]
            job.task, job.serial = task, self._serial
            job.settled = job.settled or task.kind in (Kind.READ, Kind.ANSWER)
            if task.kind is Kind.ANSWER:
                self._time = max(self._time, job.time)
                job.time += _stride(job)
                self._owed.discard(id)
        if task.kind is Kind.ANSWER:
            return
        job = self._jobs[task.id]
        if task.kind is Kind.READ:
            self._reads += 1
        elif task.kind is Kind.SAVE:
            del self._running[job.id]
            job.state = _State.SWAPPED
            job.reserved, job.shared, job.holds, job.short_since = 0, 0, False, None
        else:
            self._leave_line(job)
            job.reserved, job.passed, job.short_since = self._need(job), 0, None
            job.settled = task.kind is Kind.START
            self._running[job.id] = job
            job.state = _State.READING
            if task.kind is Kind.RESTORE and job.read == job.prompt:
                self._join(job)
        self._owed = {other.id for other in self._running.values() if other.state is _State.ANSWERING}

    def _join(self, job: _Job) -> None:
        """The job answers from now on, without credit for the time before."""
        others = [other.time for other in self._running.values() if other.state is _State.ANSWERING]
        job.state = _State.ANSWERING
        job.time = max(job.time, self._time, min(others, default=0))
        self._owed.add(job.id)
        job.joined = self._serial = self._serial + 1

    def _leave_line(self, job: _Job) -> None:
        del self._line[bisect_left(self._line, job.place)]


def _stride(job: _Job) -> int:
    """Virtual time of a burst."""
    weight = min(max(job.priority, -PRIORITY_CLIP), PRIORITY_CLIP) / PRIORITY_DOUBLES
    return round(2 ** (STRIDE_BITS - weight))
