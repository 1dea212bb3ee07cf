"""Wordings of kinds whose answer hangs on several statements, split as in `wordings`; all are from authored files.

In all of them {e} is the entity, {a} the attribute, {b} an attribute of what the first one names, {v} the value, {x} a
variable, {l} a list of two or more things. Does not cover: filling them in.
"""

from __future__ import annotations

from octavo.data.tasks.authored.lines import lines
from octavo.data.tasks.phrasing import Phrasing
from octavo.data.tasks.wordings import Wordings


def _table(name: str) -> Wordings:
    return Wordings((), lines(f"test_{name}"), authored=Phrasing(*lines(f"train_{name}")))


SEVERAL_STATEMENTS = _table("several_statements")
SEVERAL_QUESTIONS = _table("several_questions")
HOP_QUESTIONS = _table("hop_questions")
STEP_QUESTIONS = _table("step_questions")
ASSIGN_STATEMENTS = _table("assign_statements")
HOLDING_QUESTIONS = _table("holding_questions")
TRACE_QUESTIONS = _table("trace_questions")
SEEN_STATEMENTS = _table("seen_statements")
COUNT_QUESTIONS = _table("count_questions")
FIRST_QUESTIONS = _table("first_questions")
LAST_QUESTIONS = _table("last_questions")
