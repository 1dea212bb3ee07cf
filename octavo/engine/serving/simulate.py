"""The scheduler in virtual time: what a trace of jobs would meet on a machine of stated speed, in seconds of ours.

Covers: traces (random ones, JSONL files), a discrete-event simulation of lanes, pages and shared prefixes, its report.
Does not cover: the model; what each task costs is stated (`Costs`), not measured. Loads no torch.

    python -m octavo.engine.serving.simulate TRACE --lanes 2 --pages 4096 [--json]
    python -m octavo.engine.serving.simulate --random 200 --seed 1
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
from bisect import insort
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from octavo.config.errors import LimitError, OctavoError, UsageError
from octavo.engine.serving.scheduler import Kind, Rules, Scheduler, Task

PERCENTILES = (50, 90, 99, 100)
MAX_PROMPT = 131072


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """One job of a trace; checked (UsageError). arrival: seconds; prompt, most: tokens; answer: tokens after which the
    answer ends, None for `most`; prefix: name of the text that the first prefix_tokens of the prompt are; cancel:
    second at which the client leaves, None for never."""

    arrival: float = 0.0
    prompt: int
    most: int
    answer: int | None = None
    priority: int = 0
    prefix: str | None = None
    prefix_tokens: int = 0
    cancel: float | None = None

    def __post_init__(self) -> None:
        for name in ("prompt", "most", "answer", "priority", "prefix_tokens"):
            value = getattr(self, name)
            if type(value) is not int and not (name == "answer" and value is None):
                raise UsageError(f"{name} is {value!r}; it must be an integer")
        for name in ("arrival", "cancel"):
            value = getattr(self, name)
            usable = type(value) in (int, float) and math.isfinite(value)
            if not usable and (name == "arrival" or value is not None):
                raise UsageError(f"{name} is {value!r}; it must be a finite number")
        if self.prefix is not None and not isinstance(self.prefix, str):
            raise UsageError(f"prefix is {self.prefix!r}; it must be text")
        limits = (("arrival", 0, None), ("prompt", 1, None), ("most", 1, None), ("answer", 1, self.most))
        limits += (("prefix_tokens", 0, self.prompt), ("cancel", self.arrival, None), ("priority", -100, 100))
        for name, low, high in limits:
            value = getattr(self, name)
            if value is not None and (value < low or (high is not None and value > high)):
                raise UsageError(
                    f"{name} is {value}; it must be at least {low}" + f" and at most {high}" * (high is not None)
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """Seconds that tasks take, whatever other lanes do; none below 0 (UsageError)."""

    start_seconds: float = 0.001
    read_token_seconds: float = 0.001
    answer_step_seconds: float = 0.02
    page_seconds: float = 0.0005

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            if not (math.isfinite(value) and value >= 0):
                raise UsageError(f"{one.name} is {value}; it must be a finite number, at least 0")


@dataclass(slots=True, kw_only=True)
class Report:
    """What happened, in virtual seconds. gaps: between two tokens of a job that ran all the time; swapped_gaps: with a
    SAVE between; busy_share: of lanes over the makespan; peak_pages: in use at once, without those only cached."""

    first_token_seconds: list[float] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)
    swapped_gaps: list[float] = field(default_factory=list)
    order: list[int] = field(default_factory=list)
    ended: int = 0
    cancelled: int = 0
    refused: int = 0
    failed: int = 0
    saves: int = 0
    tasks: int = 0
    answer_tokens: int = 0
    cached_tokens: int = 0
    peak_pages: int = 0
    busy_share: float = 0.0
    makespan: float = 0.0

    def summary(self) -> dict[str, float]:
        """The numbers, and percentiles of the lists."""
        made = {name: value for name, value in asdict(self).items() if not isinstance(value, list)}
        for name in ("first_token_seconds", "gaps", "swapped_gaps"):
            made |= {f"{name}_p{rank}": percentile(getattr(self, name), rank) for rank in PERCENTILES}
        return made


def percentile(values: Sequence[float], rank: float) -> float:
    """The least value that `rank` percent of `values` do not exceed; 0 of none."""
    place = math.ceil(rank / 100 * len(values))
    return sorted(values)[max(place, 1) - 1] if values else 0.0


def generate(
    seed: int, count: int, *, rate: float = 2.0, prompt: int = 1000, answer: int = 100, cancels: float = 0.0,
    shared: float = 0.0, priorities: Sequence[int] = (0,),
) -> list[Trace]:  # fmt: skip
    """A random trace: Poisson arrivals (`rate` a second), lognormal lengths of the medians `prompt` (to 128K) and
    `answer` tokens, shares of jobs that are cancelled and that begin with one of four shared texts."""
    rng = random.Random(seed)
    now, made = 0.0, []
    for _ in range(count):
        now += rng.expovariate(rate)
        length = min(max(round(rng.lognormvariate(math.log(prompt), 1.2)), 1), MAX_PROMPT)
        tokens = min(max(round(rng.lognormvariate(math.log(answer), 0.8)), 1), 16 * answer)
        is_shared, leaves = rng.random() < shared, rng.random() < cancels
        made.append(Trace(
            arrival=now, prompt=length, most=tokens * rng.randint(1, 3), answer=tokens, priority=rng.choice(priorities),
            prefix=f"text{rng.randrange(4)}" if is_shared else None, prefix_tokens=length // 2 if is_shared else 0,
            cancel=now + rng.expovariate(0.5) if leaves else None,
        ))  # fmt: skip
    return made


def save(trace: Sequence[Trace], path: str | Path) -> None:
    """One JSON object a line."""
    Path(path).write_text("".join(json.dumps(asdict(job)) + "\n" for job in trace), encoding="utf-8")


def load(path: str | Path) -> list[Trace]:
    """A trace that `save` or another tool wrote; UsageError names the line and the field."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"trace {path} cannot be read: {error}") from error
    known, made = {one.name for one in fields(Trace)}, []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UsageError(f"line {number} of {path} is not JSON: {error}") from error
        if not isinstance(values, dict):
            raise UsageError(f"line {number} of {path} is no JSON object")
        wrong = [f"{name} is missing" for name in ("prompt", "most") if name not in values]
        wrong += [f"{name} is no field of a trace" for name in sorted(values.keys() - known)]
        if wrong:
            raise UsageError(f"line {number} of {path}: {wrong[0]}")
        try:
            made.append(Trace(**values))
        except UsageError as error:
            raise UsageError(f"line {number} of {path}: {error}") from error
    return made


@dataclass(slots=True, kw_only=True)
class _Live:
    trace: Trace
    number: int
    read: int = 0
    made: int = 0
    shared: int = 0  # pages of the prefix below, which it holds
    lent: str | None = None
    held: int = 0  # pages of its own
    last: float | None = None
    was_saved: bool = False
    leaves: bool = False


class _Machine:
    """Lanes and pages of a simulation."""

    def __init__(self, rules: Rules, costs: Costs) -> None:
        self.rules, self.costs = rules, costs
        self.scheduler = Scheduler(rules)
        self.report = Report()
        self.live: dict[str, _Live] = {}
        self.cached: dict[str, int] = {}  # prefix -> pages, oldest first
        self.events: list[tuple[float, int, str, str, Task | None]] = []
        self.now = self.worked = 0.0
        self.events_made = 0

    def at(self, time: float, what: str, id: str, task: Task | None = None) -> None:
        self.events_made += 1
        insort(self.events, (time, self.events_made, what, id, task), key=lambda event: (-event[0], -event[1]))

    def free(self) -> int:
        """Pages that no job holds; those that are only cached can be given up."""
        pinned = {job.lent for job in self.live.values() if job.lent is not None}
        used = sum(job.held for job in self.live.values()) + sum(self.cached[name] for name in pinned)
        self.report.peak_pages = max(self.report.peak_pages, used)
        return self.rules.total_pages - used

    def take(self, job: _Live) -> bool:
        """Pages for the job's present length; whether there were enough."""
        want = -(-(job.read + job.made) // self.rules.page_tokens) - job.shared
        extra, free = want - job.held, self.free()
        if extra > free:
            return False
        pinned = {other.lent for other in self.live.values()}
        for name in [name for name in self.cached if name not in pinned]:
            if sum(self.cached[n] for n in self.cached if n not in pinned) + extra <= free:
                break
            del self.cached[name]
        job.held = want
        self.free()
        return True

    def begin(self) -> None:
        while (task := self.scheduler.next(free_pages=self.free())) is not None:
            self.report.tasks += 1
            job = self.live[task.id]
            if task.kind is Kind.READ:
                seconds = task.count * self.costs.read_token_seconds
            elif task.kind is Kind.ANSWER:
                seconds = task.count * self.costs.answer_step_seconds
            elif task.kind is Kind.START:
                seconds = self.costs.start_seconds
            else:
                pages = -(-(job.read + job.made) // self.rules.page_tokens)
                seconds = pages * self.costs.page_seconds
            self.worked += seconds
            self.at(self.now + seconds, "done", task.id, task)

    def end(self, task: Task) -> None:
        job, trace = self.live[task.id], self.live[task.id].trace
        read = made = shared = 0
        if task.kind is Kind.START and trace.prefix in self.cached:
            shared = min(self.cached[trace.prefix], trace.prefix_tokens // self.rules.page_tokens)
            read = min(shared * self.rules.page_tokens, trace.prompt - 1)
            shared = read // self.rules.page_tokens
            job.shared, job.lent = shared, trace.prefix if shared else None
            self.report.cached_tokens += read
        elif task.kind is Kind.READ:
            read = task.count
            made = int(job.read + read == trace.prompt)
        elif task.kind is Kind.ANSWER:
            made = min(task.count, (trace.answer or trace.most) - job.made)
        elif task.kind is Kind.SAVE:
            job.held, job.shared, job.lent, job.was_saved = 0, 0, None, True
            self.report.saves += 1
        job.read, job.made = job.read + read, job.made + made
        fits = task.kind is Kind.SAVE or self.take(job)
        self.scheduler.done(task.id, read=read, shared_pages=shared, answered=made)
        for token in range(made):
            self.token(job, self.now - (task.count - 1 - token) * self.costs.answer_step_seconds * (made > 1))
        self.publish(job)
        if not fits:
            self.leave(job, "failed")
        elif job.made >= (trace.answer or trace.most):
            self.leave(job, "ended")
        elif job.leaves:
            self.leave(job, "cancelled")

    def token(self, job: _Live, time: float) -> None:
        if job.last is None:
            self.report.first_token_seconds.append(time - job.trace.arrival)
        else:
            (self.report.swapped_gaps if job.was_saved else self.report.gaps).append(time - job.last)
        job.last, job.was_saved = time, False
        self.report.answer_tokens += 1

    def publish(self, job: _Live) -> None:
        """The prefix that the job has read becomes one for others: its pages are lent to the job from now on."""
        trace, pages = job.trace, job.trace.prefix_tokens // self.rules.page_tokens
        if trace.prefix and pages and job.read >= trace.prefix_tokens and trace.prefix not in self.cached and job.held:
            self.cached[trace.prefix] = pages
            job.shared, job.lent, job.held = pages, trace.prefix, job.held + job.shared - pages

    def leave(self, job: _Live, how: str) -> None:
        self.scheduler.remove(str(job.number))
        del self.live[str(job.number)]
        setattr(self.report, how, getattr(self.report, how) + 1)
        self.report.order.append(job.number)

    def run(self, trace: Sequence[Trace]) -> Report:
        for number, one in sorted(enumerate(trace), key=lambda pair: pair[1].arrival):
            self.at(one.arrival, "add", str(number))
            if one.cancel is not None:
                self.at(one.cancel, "cancel", str(number))
        while self.events:
            self.now, _, what, id, task = self.events.pop()
            if task is not None:
                self.end(task)
            elif what == "add":
                one = trace[int(id)]
                try:
                    self.scheduler.add(id, prompt=one.prompt, most=one.most, priority=one.priority)
                    self.live[id] = _Live(trace=one, number=int(id))
                except OctavoError:
                    self.report.refused += 1
            elif id in self.live:
                self.live[id].leaves = True
                if not self.scheduler.busy(id):
                    self.leave(self.live[id], "cancelled")
            self.begin()
            if self.live or task is not None:
                self.report.makespan = self.now
        assert not self.live, f"jobs {sorted(self.live)} never end"
        self.report.busy_share = self.worked / max(self.report.makespan * self.rules.lanes, 1e-12)
        return self.report


def simulate(trace: Sequence[Trace], rules: Rules, costs: Costs) -> Report:
    """Runs the trace through the scheduler in virtual time, from second 0 to the end of the last job."""
    return _Machine(rules, costs).run(trace)


def main(arguments: Sequence[str] | None = None) -> int:
    """Simulates a trace and prints what its jobs would meet."""
    parser = argparse.ArgumentParser(prog="python -m octavo.engine.serving.simulate", description=main.__doc__)
    parser.add_argument("trace", nargs="?", help="JSONL file, one job a line")
    parser.add_argument("--random", type=int, metavar="N", help="a random trace of N jobs in place of a file")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pages", type=int, default=8192, dest="total_pages")
    for one in fields(Rules):
        if one.name != "total_pages":
            parser.add_argument(f"--{one.name.replace('_', '-')}", type=int, default=one.default)
    for one in fields(Costs):
        parser.add_argument(f"--{one.name.replace('_', '-')}", type=float, default=one.default)
    parser.add_argument("--json", action="store_true", help="one JSON object in place of the table")
    values = vars(parser.parse_args(arguments))
    try:
        if (values["trace"] is None) == (values["random"] is None):
            raise UsageError("either a trace or --random N is needed, and not both")
        if values["random"] is not None and values["random"] < 1:
            raise LimitError(f"--random is {values['random']}; it must be at least 1")
        rules = Rules(**{one.name: values[one.name] for one in fields(Rules)})
        costs = Costs(**{one.name: values[one.name] for one in fields(Costs)})
        given: str | None = values["trace"]
        trace = load(given) if given else generate(values["seed"], int(values["random"] or 0))
        summary = simulate(trace, rules, costs).summary()
    except OctavoError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if values["json"]:
        print(json.dumps(summary))
    else:
        for name, value in summary.items():
            print(f"{name:<26}{value:>14.4f}" if isinstance(value, float) else f"{name:<26}{value:>14}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
