"""Totals behind jobs that are over."""

from __future__ import annotations

from dataclasses import replace

from octavo.config.errors import OctavoError
from octavo.engine.answer import Finish
from octavo.engine.serving.events import Cancelled, Ended, Failed, JobUsage
from octavo.engine.serving.status import Status


def test_a_job_that_is_over_adds_to_the_totals() -> None:
    usage = JobUsage(prompt_tokens=50, cached_tokens=40, answer_tokens=7, drafted_tokens=6, accepted_tokens=4)
    before = Status(running=2, pages_total=9, prompt_tokens=1)
    lasts = [Ended(id="a", finish=Finish.END, usage=usage), Cancelled(id="b", why="gone", usage=usage),
             Failed(id="c", error=OctavoError("no"), usage=usage)]  # fmt: skip
    after = before
    for last in lasts:
        after = after.behind(last)
    assert after == replace(
        before, ended=1, cancelled=1, failed=1, prompt_tokens=151, cached_tokens=120, answer_tokens=21,
        drafted_tokens=18, accepted_tokens=12,
    )  # fmt: skip
