"""Events are values, and the union names every one of them."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from typing import get_args

import pytest

from octavo.engine.answer import Finish
from octavo.engine.serving import events
from octavo.engine.serving.events import Ended, Event, Token


def test_every_kind_names_its_job() -> None:
    kinds = get_args(Event)
    assert {kind.__name__ for kind in kinds} == {"Reading", "Scored", "Piece", "Ended", "Cancelled", "Failed"}
    assert all("id" in kind.__dataclass_fields__ for kind in kinds)
    assert all(hasattr(events, kind.__name__) for kind in kinds)


def test_values_do_not_change() -> None:
    ended = Ended(id="a", finish=Finish.END)
    with pytest.raises(FrozenInstanceError):
        ended.id = "b"  # type: ignore[misc]
    assert ended == Ended(id="a", finish=Finish.END)
    assert Token(id=3, text=b"x").logprob is None
