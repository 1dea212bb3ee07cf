"""Definitions: a word, mostly made up, and what it means in this text."""

from __future__ import annotations

import re
from dataclasses import dataclass
from random import Random

from octavo.data.tasks import lists, names, wordings
from octavo.data.tasks.fact import Statement, capital, careless, split_at_answer
from octavo.data.tasks.frames import dressed
from octavo.data.tasks.values import Words

_SHAPES = (
    "a {adj} {thing} for {w}", "a kind of {adj} {thing}", "a {thing} made of {noun}", "the {noun} of a {adj} {thing}",
    "a {animal} that lives near a {thing}", "a {trade} who has a {adj} {thing}", "a {adj} {animal} with {noun}",
    "{adj} {noun}", "a {thing} used by every {trade}", "to look for {noun} in a {thing}", "to sell a {adj} {thing}",
    "the day after a {noun}", "a game with a {thing} and a {animal}", "a dish of {noun} and {w}",
    "to speak like a {animal}",
    "a small {w}", "a song about {w}", "the {adj} part of a {thing}", "someone who is afraid of {w}",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Definition:
    """A word with the sentence that explains it."""

    word: str
    statement: Statement

    def question(self, draw: Random, *, held_out: bool = False) -> str:
        """A question for the meaning."""
        text = capital(wordings.DEFINITION_QUESTIONS.pick(draw, held_out=held_out).format(w=self.word))
        return text if held_out else dressed(careless(text, draw), draw)


def gloss(draw: Random, words: Words) -> str:
    """A meaning of two to nine words."""
    shape = draw.choice(_SHAPES)
    text = shape.format(
        adj=draw.choice(lists.ADJECTIVES), thing=draw.choice(lists.THINGS), noun=draw.choice(lists.NOUNS),
        animal=draw.choice(lists.ANIMALS), trade=draw.choice(lists.TRADES), w=words(),
    )  # fmt: skip
    return re.sub(r"\ba(?= [aeiou])", "an", text)


class Glossary:
    """Draws definitions of words that differ from each other; a third are near twins of an earlier word.

    held_out: made-up words only, statements in wordings that training never shows.
    """

    def __init__(self, draw: Random, words: Words, *, held_out: bool = False) -> None:
        self._draw = draw
        self._words = words
        self._held_out = held_out
        self._known: list[str] = []

    def _word(self) -> str:
        draw = self._draw
        if self._known and draw.random() < 0.33:
            return names.twin_word(draw.choice(self._known), draw).lower()
        made_up = self._held_out or draw.random() < 0.75
        return names.coined(draw).lower() if made_up else self._words()

    def definition(self) -> Definition:
        """A new definition."""
        word = self._word()
        while word in self._known or len(word) < 3:
            word = self._word()
        self._known.append(word)
        wording = wordings.DEFINITION_STATEMENTS.pick(self._draw, held_out=self._held_out)
        return Definition(word, split_at_answer(wording, gloss(self._draw, self._words), w=word))
