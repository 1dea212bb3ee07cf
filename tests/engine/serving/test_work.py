"""The clock and the fate of a job."""

from __future__ import annotations

import pytest

from octavo.engine.serving import work
from octavo.engine.serving.events import LATE
from octavo.engine.serving.work import GivenUp, Watch


def test_the_first_reason_counts() -> None:
    watch = Watch()
    watch.check()
    watch.give_up("one")
    watch.give_up("two")
    with pytest.raises(GivenUp, match="one"):
        watch.check()


def test_a_deadline_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(work.time, "monotonic", lambda: now[0])
    watch = Watch(2.5)
    now[0] = 102.5
    watch.check()
    assert (watch.now(), watch.until) == (2.5, 102.5)
    now[0] = 102.6
    with pytest.raises(GivenUp, match=LATE):
        watch.check()
    assert watch.why == LATE


def test_without_a_deadline_there_is_none() -> None:
    assert Watch().until is None
