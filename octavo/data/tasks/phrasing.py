"""Small grammars of wordings: templates with alternatives, drawn anew each time, and what people put around a question.

Covers: `Phrasing`, lead-ins and tails of training questions. Does not cover: the tables (`phrases_*`), test wordings.

A template holds alternatives in brackets, `[What|Which] is it?`; fields in braces are filled in by the caller.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import product
from random import Random

_GROUP = re.compile(r"\[([^\]]*)\]")
_SHARE = 0.25  # share of training questions that get a lead-in, and of those that get a tail

LEADS = (
    "Please tell me: ", "Quick question: ", "One question: ", "A question about the text: ", "From the text above: ",
    "About this book: ", "Answer from the text: ", "Use the document. ", "Look at the text again. ", "I wonder: ",
    "Just checking: ", "Another one: ", "Next question. ", "Help me with this: ", "Hello! ", "Hi. ", "Well: ",
    "Be so good: ", "Q: ", "Question: ", "Task: ", "You read it above. ", "I lost the page. ",
    "It is in there somewhere. ",
    "Think back. ", "Listen: ", "Thanks! Now: ", "OK, ", "So, ", "Now, ", "And ", "In this text, ", "In the book, ",
    "In the document, ", "According to the document, ", "Going by the text, ", "From what you read, ", "Please, ",
    "In the story, ", "As far as the text says, ", "Somewhere above, ", "By the way, ", "If you know, ",
)  # fmt: skip
TAILS = (
    " Thanks.", " Thank you.", " Please.", " Answer in a few words.", " Be brief.", " It is in the text.",
    " Only the answer, please.", " No explanation.", " Just that.", " Keep it short.", " I forgot.",
    " Quote it exactly.",
    " You have read it.", " Take it from the text.", " Nothing else.", " Word for word.", " I need it now.",
    " It was mentioned.", " Look closely.", " Do not guess.", " Short answer.", " As it stands in the text.",
    " It should be there.", " I am curious.", " Be exact.", " Copy it.",
)  # fmt: skip
_LOWERED = re.compile(
    r"(?:What|Who|Which|How|Where|When|Whom|Whose|In|By|To|Under|At|On|Of|As|Tell|Give|Name|Find|Look|Please|Do|Can|Could"
    r"|Would|The|Say|State|Show|Read|Quote|Continue|Complete|Finish|After|From|With|For|Is|Does|Did|Was)\b"
)


class Phrasing:
    """Templates, each as likely as the others; each alternative of a template is as likely as its neighbours."""

    def __init__(self, *templates: str) -> None:
        self._parsed = [[part.split("|") for part in _parts(template)] for template in templates]

    def pick(self, draw: Random) -> str:
        """One wording."""
        return "".join([draw.choice(part) if len(part) > 1 else part[0] for part in draw.choice(self._parsed)])

    def all(self) -> Iterator[str]:
        """Every wording."""
        for parts in self._parsed:
            yield from map("".join, product(*parts))


def _parts(template: str) -> list[str]:
    """Fixed text and groups in turn."""
    return [part for part in _GROUP.split(template) if part]


STATEMENT_FRAMES = Phrasing(
    "[It is said|They say|People say|We were told|It is known|The papers show|He wrote|She told me|I hear|Rumour has it"
    "|Nobody doubts|It turned out|The record shows|You should know|It seems] that {s}",
    "[In those days|To this day|By then|As everyone knew,|By all accounts,|In truth,|For the record:|Note:|Also,|And"
    "|Besides,|Strange to say,|That year|At that time] {s}",
    "{s} [That much is certain.|So they say.|Nobody knew why.|It was in the papers.|Remember that.|I saw it myself.]",
    '"{s}" [he said.|she said.|said the boy.|they told us.|I answered.]', "({s})", "[-|*|•|1.] {s}",
)  # fmt: skip
_FRAMED = 0.4  # share of training statements of relations that stand in a frame


def framed(wording: str, draw: Random) -> str:
    """A statement's wording, often inside a larger sentence."""
    if draw.random() > _FRAMED:
        return wording
    frame = STATEMENT_FRAMES.pick(draw)
    inside = frame.startswith(("{s}", '"', "(", "-", "*", "•", "1", "F", "N"))
    if not inside and not wording.startswith("{"):
        wording = wording[0].lower() + wording[1:]
    return frame.replace("{s}", wording)


def dressed(question: str, draw: Random) -> str:
    """A training question, one time in four behind a lead-in and one time in four before a tail."""
    if draw.random() < _SHARE:
        lead = draw.choice(LEADS)
        if lead[-2] not in ".:!?" and _LOWERED.match(question):
            question = question[0].lower() + question[1:]
        question = lead + question
    return question + draw.choice(TAILS) if draw.random() < _SHARE else question
