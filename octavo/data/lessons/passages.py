"""Questions over a passage of prose that stands before them, or in the message itself.

Covers: planted facts, how a sentence goes on, which one follows, a missing word, true or not, what the text does not
say. Does not cover: long texts (octavo.data.rows), wordings kept for tests: those of facts and quotations are the
trained ones of octavo.data.tasks.

Every answer is found in the passage or follows from how it was made. An answer about a document begins with a space, as
in rows of recall; one to a message does not.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from random import Random

from octavo.data import ground as grounds
from octavo.data.ground import Ground
from octavo.data.lessons.lesson import Lesson, conversation
from octavo.data.prose import TextSource
from octavo.data.tasks import fact, quotation

LENGTHS = (90, 500)
"""Tokens of a passage, least and most."""
NOT_SAID = "The text does not say."
_KINDS = {"fact": 0.4, "rest": 0.15, "next": 0.1, "gap": 0.15, "true": 0.1, "unsaid": 0.1}
_PASTED = 0.5  # share of passages that stand in the message
_NEXT = (
    'Which sentence follows "{q}"?', 'What stands right behind "{q}"?', 'Give the sentence after "{q}".',
    'After "{q}", what does the text say?', 'What is the sentence that comes after "{q}"?',
)  # fmt: skip
_GAP = (
    'Which word is missing: "{q}"?', 'Fill the gap: "{q}"', 'What belongs in the gap of "{q}"?',
    'One word of the text is left out here: "{q}". Which one?', 'Complete this from the text: "{q}"',
)  # fmt: skip
_TRUE = (
    'Does the text say: "{q}"?', 'True or not, by the text: "{q}"', 'Is this what stands there: "{q}"?',
    'Does this sentence stand in the text? "{q}"',
)  # fmt: skip
PASTE = ("{p}\n\n{q}", "{q}\n\n{p}", 'Here is a text:\n\n"""\n{p}\n"""\n\n{q}', "Text: {p}\n\nQuestion: {q}",
          "Read this and answer.\n\n{p}\n\n{q}")  # fmt: skip
_NAME = re.compile(r"(?<=[a-z,;] )([A-Z][a-z]{2,})(?=[ ,.;:!?])")
_FIGURE = re.compile(r"(?<= )(\d+)(?=[ ,.;:!?])")
_TRIES = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """A passage, a question and its answer. unsaid: the answer is `NOT_SAID`."""

    text: str
    question: str
    answer: str
    kind: str

    @property
    def unsaid(self) -> bool:
        return self.answer == NOT_SAID


class Passages:
    """Lessons over prose of a pack."""

    def __init__(self, source: TextSource) -> None:
        self._source = source

    def lesson(self, draw: Random) -> Lesson:
        """One passage with a question of a drawn kind, or of the next one drawn where the prose has no room for it.
        Raises RuntimeError where there is room for none."""
        made = None
        for _ in range(_TRIES):
            made = self._tried(draw, draw.choices(list(_KINDS), list(_KINDS.values()))[0])
            if made is not None:
                break
        if made is None:
            raise RuntimeError(f"no passage of the pack's prose has room for a question of {', '.join(_KINDS)}")
        if draw.random() < _PASTED:
            asked = draw.choice(PASTE).format(p=made.text, q=made.question)
            messages = [{"role": "user", "content": asked}, {"role": "assistant", "content": made.answer}]
            return conversation("passage", messages)
        return about_document(made)

    def passage(self, draw: Random, kind: str) -> Passage:
        """A passage with a question of `kind`. Raises RuntimeError where the prose has no room for it."""
        made = self._tried(draw, kind)
        if made is None:
            raise RuntimeError(f"no passage of {_TRIES} has room for a question of kind {kind}")
        return made

    def _tried(self, draw: Random, kind: str) -> Passage | None:
        """A passage with a question of `kind`; prose is drawn again some times until it has what the kind needs."""
        make = {"fact": self._fact, "unsaid": self._unsaid, "rest": _rest, "next": _next, "gap": _gap, "true": _true}
        for _ in range(_TRIES):
            ground = grounds.prose(draw, self._source, draw.randint(*LENGTHS))
            made = make[kind](ground, draw)
            if made is not None:
                return made
        return None

    def _book(self, draw: Random) -> fact.FactBook:
        return fact.FactBook(draw, lambda: self._source.word(draw))

    def _fact(self, ground: Ground, draw: Random) -> Passage | None:
        """One of some statements that stand between the sentences."""
        book = self._book(draw)
        facts = [book.fact() for _ in range(draw.choice((1, 2, 3, 4)))]
        text = planted(ground, [one.statement.text for one in facts], draw)
        asked = draw.choice(facts)
        answer = asked.statement.answer.strip()
        return None if text is None else _made("fact", text, asked.question(draw), answer)

    def _unsaid(self, ground: Ground, draw: Random) -> Passage | None:
        """A question for a statement that was left out."""
        book = self._book(draw)
        facts = [book.fact() for _ in range(draw.choice((1, 2, 3)))]
        text = planted(ground, [one.statement.text for one in facts[1:]], draw)
        missing = facts[0].entity.text
        if text is None or missing.lower() in text.lower():
            return None
        return _made("unsaid", text, facts[0].question(draw), NOT_SAID)


def about_document(made: Passage) -> Lesson:
    """A lesson in which the passage is read before the question."""
    messages = [{"role": "user", "content": made.question}, {"role": "assistant", "content": " " + made.answer}]
    return conversation("passage", messages, document=made.text)


def _made(kind: str, text: str, question: str, answer: str) -> Passage:
    return Passage(text=text, question=question, answer=answer, kind=kind)


def _span(ground: Ground) -> tuple[int, int] | None:
    """Tokens from the first whole sentence to the end of the last; None where there are under three."""
    closed = [i for i, whole in enumerate(ground.scan.closed.tolist()) if whole]
    return (int(ground.scan.starts[closed[0]]), int(ground.scan.stops[closed[-1]])) if len(closed) > 2 else None


def _text(ground: Ground, start: int, stop: int) -> str:
    return ground.source.vocabulary.text(ground.tokens[start:stop]).replace("\ufffd", "")


def _whole(ground: Ground) -> str | None:
    """The passage as it is."""
    span = _span(ground)
    return None if span is None else _text(ground, *span).strip()


def planted(ground: Ground, statements: list[str], draw: Random) -> str | None:
    """The passage with statements between its sentences; None if there are too few places."""
    span = _span(ground)
    places = [] if span is None else [int(at) for at in ground.scan.places(paragraphs=False) if span[0] < at < span[1]]
    if span is None or len(places) < len(statements):
        return None
    ats = sorted(draw.sample(places, len(statements)))
    parts, before = [], span[0]
    for at, statement in zip(ats, statements, strict=True):
        parts += [_text(ground, before, at), " ", statement]
        before = at
    return "".join([*parts, _text(ground, before, span[1])]).strip()


def _sentences(ground: Ground) -> list[str]:
    """Whole sentences inside of lines that stand once in the passage, in order."""
    text = _whole(ground)
    if text is None:
        return []
    scan = ground.scan
    ranges = zip(scan.starts.tolist(), scan.stops.tolist(), scan.closed.tolist(), strict=True)
    found = [ground.text(start, stop) for start, stop, closed in ranges if closed]
    return [one for one in found if one and '"' not in one and text.count(one) == 1 and 5 <= one.count(" ") < 40]


def _rest(ground: Ground, draw: Random) -> Passage | None:
    """How a sentence goes on."""
    sentences, text = _sentences(ground), _whole(ground)
    draw.shuffle(sentences)
    for sentence in sentences:
        words = sentence.split(" ")
        cut = quotation.quoted_words(draw, len(words))
        quote = None if cut is None else " ".join(words[:cut])
        if text is not None and quote is not None and text.count(quote) == 1:
            return _made("rest", text, quotation.rest_question(quote, draw), " ".join(words[cut:]))
    return None


def _next(ground: Ground, draw: Random) -> Passage | None:
    """The sentence behind one, in the same line."""
    sentences, text = _sentences(ground), _whole(ground)
    pairs = [(a, b) for a in sentences for b in sentences if text is not None and f"{a} {b}" in text]
    if not pairs or text is None:
        return None
    first, second = draw.choice(pairs)
    return _made("next", text, draw.choice(_NEXT).format(q=first), second)


def _gap(ground: Ground, draw: Random) -> Passage | None:
    """A name or a figure that is left out of a sentence."""
    text = _whole(ground)
    found = [(s, m) for s in _sentences(ground) for rule in (_NAME, _FIGURE) for m in rule.finditer(s)]
    if not found or text is None:
        return None
    sentence, match = draw.choice(found)
    gap = sentence[: match.start()] + "____" + sentence[match.end() :]
    return _made("gap", text, draw.choice(_GAP).format(q=gap), match[1])


def _true(ground: Ground, draw: Random) -> Passage | None:
    """A sentence as it stands, or with another name of the passage in place of its own."""
    text, sentences = _whole(ground), _sentences(ground)
    names = sorted({match[1] for one in sentences for match in _NAME.finditer(one)})
    named = [(one, match) for one in sentences for match in _NAME.finditer(one)]
    if not named or text is None:
        return None
    sentence, match = draw.choice(named)
    others = [name for name in names if name not in sentence]
    if not others:
        return None
    if draw.random() < 0.5:
        return _made("true", text, draw.choice(_TRUE).format(q=sentence), "Yes.")
    swapped = sentence[: match.start()] + draw.choice(others) + sentence[match.end() :]
    return None if swapped in text else _made("true", text, draw.choice(_TRUE).format(q=swapped), "No.")
