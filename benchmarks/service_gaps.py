"""The time between tokens of a running answer, alone and while a long prompt arrives: a part of `service_load`.

Covers: the answer beside the prompt, the same tokens of the same answer with nothing beside it, which is what the
machine does by itself, and the prompt with nothing beside it. Does not cover: the statistics (`octavo.bench.gaps`),
other loads (`service_load`).
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from typing import Any

import numpy as np

from benchmarks.service_jobs import Heard, ended, started
from octavo.bench.gaps import attributed, beside, spread
from octavo.bench.waits import Clock, Moment, Parts, parts
from octavo.engine.llm import LLM
from octavo.engine.request import Request
from octavo.engine.serving.events import Ended, Event, Piece
from octavo.engine.serving.job import Job
from octavo.engine.serving.service import Service

_ALONE = 600  # tokens before the prompt arrives, the last 500 of which tell the usual gap
_MOST = 60_000  # tokens of the answer; the prompt is read before


class Timed(Heard):
    """As `Heard`; also what the time of the lane that answers went to."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock, self.moments = clock, list[Moment]()

    def __call__(self, event: Event) -> None:
        if isinstance(event, Piece):
            self.moments.append(self._clock.moment())
        super().__call__(event)

    @property
    def gaps(self) -> list[float]:
        return [b.at - a.at for a, b in itertools.pairwise(self.moments)]

    @property
    def parts(self) -> list[Parts | None]:
        return [parts(a, b) for a, b in itertools.pairwise(self.moments)]


def gaps(llm: LLM, ids: np.ndarray, options: argparse.Namespace) -> dict[str, Any]:
    """A running answer beside a prompt of `--arriving` tokens, and each alone."""
    asked, most = tuple(ids[1:3000].tolist()), min(options.arriving, len(ids) - 1)
    arriving = tuple(ids[:most].tolist())  # before the clock runs: Python makes the numbers in one go
    with Clock() as clock:
        service, stream, long = started(llm), Timed(clock), Heard()
        service.submit(Job(id="stream", prompt=asked, request=Request(max_tokens=_MOST)), stream)
        _reach(service, stream, _ALONE)
        at, begun = len(stream.times), time.perf_counter()
        service.submit(Job(id="long", prompt=arriving, request=Request(max_tokens=1)), long)
        long.over.wait()
        seconds, stop = time.perf_counter() - begun, max(len(stream.times), at + 2)
        _reach(service, stream, stop)
        service.cancel("stream")
        stream.over.wait()
        again = Timed(clock)
        service.submit(Job(id="again", prompt=asked, request=Request(max_tokens=stop)), again)
        again.over.wait()
    alone = ended(service, Job(id="alone", prompt=arriving, request=Request(max_tokens=1), salt="x"))
    assert isinstance(alone.last, Ended)
    service.close()
    before, taken = slice(_ALONE // 6, _ALONE - 1), slice(at, stop - 1)
    usual = statistics.median(stream.gaps[before])
    own = statistics.median([part.own for part in stream.parts[before] if part is not None] or [usual])
    told = [
        spread(each.gaps[taken], usual) | attributed(each.parts[taken], usual, own) for each in (stream, again)
    ]  # fmt: skip
    return {
        "prompt_tokens": most, "usual_gap_seconds": usual, "beside": told[0], "alone": told[1],
        "beside_over_same_tokens_alone": beside(stream.gaps[taken], again.gaps[taken]),
        "answers_unlike": stream.tokens[:stop] != again.tokens,
        "prompt_seconds_beside": seconds, "prompt_seconds_alone": alone.last.usage.seconds,
    }  # fmt: skip


def _reach(service: Service, stream: Heard, tokens: int) -> None:
    """Wait until the answer has so many tokens; SystemExit where it ends before."""
    while len(stream.times) < tokens:
        if stream.over.wait(0.01):
            service.close()
            raise SystemExit(f"the answer that runs beside the prompt ended after {len(stream.times)} tokens")
