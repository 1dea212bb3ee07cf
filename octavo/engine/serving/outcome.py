"""What a task came to, for one job or for several that take a step together.

Covers: `Outcome`, errors that nobody foresaw as ones that a client may hear, `answer_all`. Does not cover: what follows
from an outcome (`service`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from octavo.config.errors import OctavoError
from octavo.engine.runner import Runner
from octavo.engine.serving.work import GivenUp, Work
from octavo.model.stretch import Row

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """over: the job is complete; done: what the scheduler is told; failure: why the job cannot go on. A job that was
    given up meanwhile says so in its watch."""

    over: bool = False
    done: Mapping[str, int] = field(default_factory=dict)
    failure: OctavoError | None = None


def outcome_of(work: Work, task: Callable[[], tuple[bool, dict[str, int]]]) -> Outcome:
    """What `task`, which says `over` and `done`, comes to."""
    try:
        work.watch.check()
        over, done = task()
    except GivenUp:
        return Outcome()
    except Exception as error:
        return Outcome(failure=known(error, work.id))
    return Outcome(over=over, done=done)


def answer_all(runner: Runner, works: Sequence[Work], steps: int) -> list[Outcome]:
    """Up to `steps` tokens of each job, step by step in one call for all of them where that serves. A job's failure is
    its own."""
    rows = _rows(runner, works)

    def answer(work: Work) -> tuple[bool, dict[str, int]]:
        made, over = work.answer(steps, rows.get(work.id))
        return over, {"answered": made}

    return [outcome_of(work, lambda work=work: answer(work)) for work in works]


def _rows(runner: Runner, works: Sequence[Work]) -> dict[str, Row]:
    """By job the rows of the next step, of those that may take it together; none for one job, and none where that
    fails, since each job by itself says then what is wrong."""
    if len(works) < 2:
        return {}
    try:
        found = [(work.id, ready) for work in works if work.watch.why is None and (ready := work.beside()) is not None]
        rows = runner.together([stretch for _, (stretch, _) in found], [token for _, (_, token) in found])
    except OctavoError:
        return {}
    except Exception as error:  # a kernel, a capture, memory: the lane goes on, and with it all other jobs
        _log.error("a step of %d answers failed; each takes its own", len(works), exc_info=error)
        return {}
    return {id: row for (id, _), row in zip(found, rows, strict=True)}


def known(error: Exception, id: str) -> OctavoError:
    """The error itself, or one that tells a client of it; what nobody foresaw is logged."""
    if isinstance(error, OctavoError):
        return error
    _log.error("job %s failed", id, exc_info=error)
    return OctavoError(f"the job failed: {type(error).__name__}: {error}")
