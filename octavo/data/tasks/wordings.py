"""Wordings of statements and questions, split into those of the training rows and those that only tests use.

In all of them {e} is the entity, {a} the attribute, {v} the value, {q} quoted words, {k} a key, {w} a word.
Does not cover: filling them in.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from random import Random

from octavo.data.tasks import phrases_facts, phrases_quotes
from octavo.data.tasks.authored.lines import lines
from octavo.data.tasks.phrasing import Phrasing

_LISTED = 0.15  # share of training wordings from the short lists; the others come from grammars and authored files
_AUTHORED = 0.7  # of those, where there are both
_SHORT = 5  # words; shorter wordings with one word left out say nothing any more


@dataclass(frozen=True, slots=True)
class Wordings:
    """Wordings for training and for testing; no wording is in both.

    more: a grammar that training draws from too. authored: templates written one by one, likewise.
    """

    train: tuple[str, ...]
    test: tuple[str, ...]
    more: Phrasing | None = None
    authored: Phrasing | None = None

    def pick(self, draw: Random, *, held_out: bool = False, plain: bool = False) -> str:
        """One wording of the wanted half; `plain`: from the short list, as test cells show known wordings."""
        if held_out:
            return draw.choice(self.test)
        source = None if plain else self._source(draw)
        if source is None:
            return draw.choice(self.train)
        while near(wording := source.pick(draw), self.test):
            pass  # a grammar as wide as these can say what is kept for tests
        return wording

    def _source(self, draw: Random) -> Phrasing | None:
        """Where a training wording comes from; None: the short list."""
        if self.train and draw.random() < _LISTED:
            return None
        if self.more is not None and self.authored is not None:
            return self.authored if draw.random() < _AUTHORED else self.more
        return self.authored or self.more


def bare(text: str) -> str:
    """Letters and fields alone, in small letters: two wordings with the same are one."""
    return re.sub(r"[^a-z{}]+", " ", text.lower()).strip()


def near(wording: str, others: tuple[str, ...]) -> bool:
    """Whether `wording` is one of `others` but for one word (of four or fewer words: exactly)."""
    return not _variants(wording).isdisjoint(_all_variants(others))


def _variants(wording: str) -> frozenset[tuple[str, ...]]:
    """The bare words, and those left when any one is taken out."""
    words = tuple(bare(wording).split())
    short = len(words) < _SHORT
    return frozenset({words} if short else {words, *(words[:i] + words[i + 1 :] for i in range(len(words)))})


@cache
def _all_variants(wordings: tuple[str, ...]) -> frozenset[tuple[str, ...]]:
    return frozenset().union(*map(_variants, wordings))


FACT_STATEMENTS = Wordings(
    (
        "The {a} of {e} is {v}.", "The {a} of {e} is {v}.", "The {a} of {e} is {v}.", "{e}'s {a} is {v}.",
        "{v} is the {a} of {e}.", "Remember that the {a} of {e} is {v}.", "As for {e}, the {a} is {v}.",
        "The {a} that belongs to {e} is {v}.", "For {e} the {a} is {v}.", "{a} of {e}: {v}.",
        "It was well known that the {a} of {e} was {v}.", "Everyone knew the {a} of {e}: it was {v}.",
        "{e} has {v} as {a}.", "The {a} of {e}, they said, was {v}.", "Note: {e}, {a}, {v}.",
        "If anyone asks for the {a} of {e}, say {v}.", "In the register {e} stands with the {a} {v}.",
        "They gave {e} the {a} {v}.", "{e}: {a} {v}.", "(The {a} of {e} is {v}.)", "The {a} of {e} was {v}.",
        'The {a} of {e} is "{v}".', "We learned later that {e}'s {a} was {v}.",
        "{e}, whose {a} is {v}, was not there.",
        "The {a} of {e} had always been {v}, and nobody minded.", "{v} was {e}'s {a}.",
        "On the slip was written the {a} of {e}, {v}.", "The {a} for {e} is {v}.", "{e} / {a} / {v}",
    ),
    (
        "Let it be written here that the {a} of {e} is {v}.", "One thing is certain: {e}'s {a} is {v}.",
        "The clerk noted {v} as the {a} of {e}.",
        *lines("test_fact_statements"),
    ),
    phrases_facts.FACT_STATEMENTS,
    Phrasing(*lines("train_fact_statements")),
)  # fmt: skip
FACT_QUESTIONS = Wordings(
    (
        "What is the {a} of {e}?", "What is the {a} of {e}?", "What is the {a} of {e}?", "What is {e}'s {a}?",
        "Tell me the {a} of {e}.", "What {a} does {e} have?", "{e}: what is the {a}?", "Do you know the {a} of {e}?",
        "According to the text, what is the {a} of {e}?", "Give the {a} of {e}.", "Please state the {a} of {e}.",
        "I forgot the {a} of {e}. What was it?", "What does the text say is the {a} of {e}?", "Name the {a} of {e}.",
        "The {a} of {e}?", "What was the {a} of {e}?", "Look up {e} and give the {a}.", "Can you find {e}'s {a}?",
        "What is the {a} for {e}?", "{e}'s {a}?", "Find the {a} of {e} in the text.",
        "How does the text give the {a} of {e}?",
        "What's the {a} of {e}?", "What's {e}'s {a}?",
    ),
    (
        "Kindly remind me of the {a} of {e}.", "I need to know {e}'s {a}; what does it say?",
        "Which {a} is given for {e}?",
        "Say what the {a} of {e} is.", "Can you recall what the {a} of {e} is?",
        *lines("test_fact_questions"),
    ),
    phrases_facts.FACT_QUESTIONS,
    Phrasing(*lines("train_fact_questions")),
)  # fmt: skip
WHO_QUESTIONS = Wordings(
    ("Who is the {a} of {e}?", "Who is {e}'s {a}?", "Who was the {a} of {e}?", "Who is named as the {a} of {e}?"),
    ("Do you remember who the {a} of {e} is?", "By name, who is the {a} of {e}?", *lines("test_who_questions")),
    phrases_facts.WHO,
    Phrasing(*lines("train_who_questions")),
)
QUOTE_QUESTIONS = Wordings(
    (
        'How does this go on: "{q}"?', 'Continue: "{q}"', 'What comes after "{q}"?',
        'Complete the sentence that begins "{q}".', 'What follows the words "{q}"?', 'Finish this sentence: "{q}"',
        '"{q}" - how does it go on?', 'Give the rest of the sentence "{q}".',
        'The text says "{q}". What are the next words?',
        'Which words come after "{q}"?', 'Complete this quotation: "{q} ..."', 'Read on from "{q}".',
        'What is the rest of "{q}"?', "Quote on from: {q}", 'How does the line "{q}" go on?',
        "How does “{q}” continue?",
        'How does the sentence "{q}" end?', "{q} ...", 'How does the quote "{q}" go on?',
        "What comes next after '{q}'?",
    ),
    (
        'Please carry on from "{q}".', 'What words stand next after "{q}"?', 'How is "{q}" continued?',
        'Go on with the line "{q}".', 'With which words does "{q}" proceed?',
        *lines("test_quote_questions"),
    ),
    phrases_quotes.QUOTE,
    Phrasing(*lines("train_quote_questions")),
)  # fmt: skip
NEXT_LINE_QUESTIONS = Wordings(
    (
        'What line comes after "{q}"?', 'What is the next line after "{q}"?', 'Which line follows "{q}"?',
        'After the line "{q}", what comes?', 'Give the line after "{q}".', 'What is the line that follows "{q}"?',
    ),
    (
        'Recite the line just below "{q}".', 'The line "{q}" is followed by which line?',
        *lines("test_next_line_questions"),
    ),
    phrases_quotes.NEXT_LINE,
    Phrasing(*lines("train_next_line_questions")),
)  # fmt: skip
SPEAKER_QUESTIONS = Wordings(
    (
        'Who says "{q}"?', 'Who says "{q}"?', 'Who says "{q}"?', 'Who said "{q}"?', 'Which character says "{q}"?',
        'Who speaks the line "{q}"?', 'Name the speaker of "{q}".', 'Whose line is "{q}"?',
        'Who speaks the words "{q}"?',
        '"{q}" - who says this?', 'Which person in the play says "{q}"?', 'In whose speech does "{q}" stand?',
        'Who is the speaker of "{q}"?', 'Tell me who says "{q}".', 'By whom are the words "{q}" spoken?',
        "Who says “{q}”?", "Who says: {q}", "Who says '{q}'?", 'Who says the line "{q}"?',
    ),
    (
        'Who utters "{q}"?', 'Which speaker has the line "{q}"?', 'To whom does the line "{q}" belong?',
        'From whose mouth comes "{q}"?', 'Find out who it is that says "{q}".',
        *lines("test_speaker_questions"),
    ),
    phrases_quotes.SPEAKER,
    Phrasing(*lines("train_speaker_questions")),
)  # fmt: skip
CHAPTER_QUESTIONS = Wordings(
    (
        'In which chapter does "{q}" stand?', 'In which chapter are the words "{q}"?',
        'Which chapter contains "{q}"?',
        'Name the chapter with the words "{q}".', 'In what chapter does one read "{q}"?', 'Where does "{q}" stand?',
        'Which chapter has the sentence that begins "{q}"?', 'Under which heading does "{q}" stand?',
        '"{q}" - in which chapter is that?', 'In which part of the book is "{q}"?', 'What chapter is "{q}" from?',
        'Find the chapter of "{q}".',
    ),
    (
        'To which chapter does "{q}" belong?', 'Which chapter would I open to read "{q}"?',
        'Say in which chapter I find "{q}".', 'The words "{q}" occur in which chapter?',
    ),
    phrases_quotes.CHAPTER,
)  # fmt: skip
DEFINITION_STATEMENTS = Wordings(
    (
        "The word {w} means {v}.", "{w} means {v}.", "{w}: {v}.", "A {w} is {v}.", '"{w}" is another word for {v}.',
        "By {w} people here understand {v}.", "They call {v} a {w}.", "In these parts {w} stands for {v}.",
        "{w} (noun): {v}.", "When they say {w}, they mean {v}.", "The term {w} is used for {v}.", "{w} - {v}.",
        "What we call {w} is {v}.",
    ),
    ("A glossary explains {w} as {v}.", "Translated, {w} would be {v}."),
    phrases_facts.DEFINITION_STATEMENTS,
)  # fmt: skip
DEFINITION_QUESTIONS = Wordings(
    (
        "What does {w} mean?", 'What does "{w}" mean?', "What does the word {w} mean?", "What is a {w}?",
        "What is meant by {w}?",
        "Define {w}.", "Explain the word {w}.", "What is the meaning of {w}?", "How is {w} defined?",
        "What does {w} stand for?", "Give the meaning of {w}.", "What do they call {w}?", "{w}: what is that?",
    ),
    (
        "Say in other words what {w} is.", "How would you explain {w}?", "Which meaning does {w} have?",
        "I do not know the word {w}. What is it?",
    ),
    phrases_facts.DEFINITION_QUESTIONS,
)  # fmt: skip
KEY_QUESTIONS = Wordings(
    (
        "What is the value of {k}?", 'What stands after "{k}"?', "Look up {k}.", "{k}?", "What is {k}?",
        "Which value belongs to {k}?", "What is listed for {k}?", "Give the entry for {k}.",
        "What does the list say for {k}?",
        "What is the entry of {k}?", "Find {k} in the list.", "{k}:", "Which entry does {k} have?",
    ),
    (
        "In the list, what is set against {k}?", "Read me the value kept under {k}.", "With what is {k} paired?",
        "State the value that {k} has.",
    ),
    phrases_facts.KEYS,
)  # fmt: skip
