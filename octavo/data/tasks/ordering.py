"""Which of several things comes first, or last, in a text.

Covers: the questions over named things and quoted passages. Does not cover: finding them and their order.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from octavo.data.tasks.fact import capital
from octavo.data.tasks.frames import dressed
from octavo.data.tasks.linked_wordings import FIRST_QUESTIONS, LAST_QUESTIONS

CHOICES = (2, 2, 3, 4)
"""Of how many things to choose; drawn."""
PASSAGE_WORDS = (5, 8)
"""Least and most words of a quoted passage."""


def order_question(
    things: Sequence[str], draw: Random, *, first: bool, quoted: bool = False, held_out: bool = False
) -> str:
    """Which of `things` comes first (or last)? They are named in an order that is drawn."""
    shown = [f'"{thing}"' if quoted else thing for thing in things]
    draw.shuffle(shown)
    listed = ", ".join(shown[:-1]) + " or " + shown[-1]
    table = FIRST_QUESTIONS if first else LAST_QUESTIONS
    text = capital(table.pick(draw, held_out=held_out).format(l=listed))
    return text if held_out else dressed(text, draw)
