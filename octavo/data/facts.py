"""Facts for the closed-book test of a memory: triples, their training documents, and the questions of the test.

Covers: made-up towns, how often a fact is shown, documents, questions with their group, exposures and open book.
Does not cover: wordings (octavo.data.facts_wordings), triples from packages (octavo.data.facts_real).

A fact is shown as `exposures` statements a pass over the documents. One in four of the shown facts is also asked there,
in trained wordings, so that a model learns what a question looks like; the others are asked in tests only.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from random import Random

from octavo.data.extract import Row
from octavo.data.facts_wordings import HELD_OUT_STATEMENTS, WORDINGS, fill

SEED = 2026
SHOWN_TOWNS, NEVER_TOWNS = 1500, 500
EXPOSURE_STEPS = 5  # town i is shown 2^(i mod 5) times
LINES = 8  # of a document, each about another subject, so that nothing near a line tells its answer
ASKED_SHARE = 0.25
REAL_TEST_SHARE = 0.15
PASSAGE_LINES = 8
TRADES = (
    "amber", "apples", "barley", "bells", "candles", "charcoal", "cheese", "cider", "clocks", "copper", "furs", "glass",
    "honey", "ink", "lace", "lamps", "leather", "marble", "paper", "pearls", "pottery", "rope", "saffron", "salt",
    "silk", "tea", "timber", "tin", "wine", "wool",
)  # fmt: skip
_STARTS = ("b", "br", "d", "dr", "f", "g", "gl", "h", "k", "kl", "l", "m", "n", "p", "pr", "r", "s", "st", "t", "tr",
           "v", "w", "z")  # fmt: skip
_VOWELS = ("a", "e", "i", "o", "u", "ae", "ei", "ou")
_ENDS = ("", "", "l", "m", "n", "nd", "r", "rk", "s", "st", "th")
MIN_NAME, MAX_NAME = 5, 12


@dataclass(frozen=True, kw_only=True)
class Fact:
    """One triple. group: `real`, `invented` or `never`. exposures: statements a pass; asked: also as questions."""

    subject: str
    relation: str
    answer: str
    group: str
    exposures: int
    asked: bool


class NameMaker:
    """Draws made-up names that are unlike each other and that `is_taken` does not know."""

    def __init__(self, draw: Random, is_taken: Callable[[str], bool]) -> None:
        self._draw = draw
        self._is_taken = is_taken
        self._made: set[str] = set()

    def name(self, syllables: int) -> str:
        """A new name of five to twelve letters."""
        choice = self._draw.choice
        while True:
            word = "".join(choice(_STARTS) + choice(_VOWELS) + choice(_ENDS) for _ in range(syllables))
            if MIN_NAME <= len(word) <= MAX_NAME and word not in self._made and not self._is_taken(word):
                self._made.add(word)
                return word.capitalize()


def town_facts(is_taken: Callable[[str], bool], *, shown: int = SHOWN_TOWNS, never: int = NEVER_TOWNS) -> list[Fact]:
    """River, founder and trade of made-up towns; `is_taken` tells small-letter words that other text holds."""
    draw = Random(SEED)
    maker = NameMaker(draw, is_taken)
    facts = []
    for index in range(shown + never):
        group, exposures = ("invented", 2 ** (index % EXPOSURE_STEPS)) if index < shown else ("never", 0)
        town = maker.name(3)
        answers = {
            "river": maker.name(2),
            "founder": f"{maker.name(2)} {maker.name(2)}",
            "trade": draw.choice(TRADES),
        }
        for relation, answer in answers.items():
            asked = group == "invented" and draw.random() < ASKED_SHARE
            facts.append(Fact(subject=town, relation=relation, answer=answer, group=group, exposures=exposures,
                              asked=asked))  # fmt: skip
    return facts


def real_facts(triples: Iterable[tuple[str, str, str]], exposures: Callable[[str], int]) -> list[Fact]:
    """Facts of `triples` (subject, relation, answer), shown as often as `exposures` says for the relation."""
    draw = Random(SEED + 1)
    return [
        Fact(subject=s, relation=relation, answer=answer, group="real", exposures=exposures(relation),
             asked=draw.random() < ASKED_SHARE)
        for s, relation, answer in triples
    ]  # fmt: skip


def _lines(fact: Fact, draw: Random) -> Iterator[str]:
    """Every line that shows a fact in one pass: statements in turn, then a question for two of them if it is asked."""
    wording = WORDINGS[fact.relation]
    statements, questions = list(wording.trained_statements), list(wording.trained_questions)
    draw.shuffle(statements)
    draw.shuffle(questions)
    for index in range(fact.exposures):
        yield fill(statements[index % len(statements)], subject=fact.subject, answer=fact.answer)
    for index in range((fact.exposures + 1) // 2 if fact.asked else 0):
        yield f"{prompt(questions[index % len(questions)], fact.subject)} {fact.answer}"


def prompt(question: str, subject: str) -> str:
    """What a closed-book question looks like up to its answer, in training and in tests."""
    return f"Question: {fill(question, subject=subject)} Answer:"


def _groups(items: Sequence[tuple[str, str]]) -> Iterator[list[str]]:
    """Lines in order, `LINES` together, none of one subject in a group; what does not fit waits for the next one."""
    waiting: deque[tuple[str, str]] = deque(items)
    while waiting:
        subjects: set[str] = set()
        lines: list[str] = []
        passed: list[tuple[str, str]] = []
        while waiting and len(lines) < LINES:
            subject, line = waiting.popleft()
            if subject in subjects:
                passed.append((subject, line))
            else:
                subjects.add(subject)
                lines.append(line)
        waiting.extendleft(reversed(passed))
        yield lines


def fact_documents(facts: Sequence[Fact]) -> Iterator[Row]:
    """Training documents that show every fact as often as it says, in an order fixed by the seed."""
    draw = Random(SEED + 2)
    items = [(fact.subject, line) for fact in facts for line in _lines(fact, draw)]
    draw.shuffle(items)
    for index, lines in enumerate(_groups(items)):
        yield {"id": f"facts:{index}", "text": "\n".join(lines)}


def _passage(fact: Fact, others: Sequence[Fact], draw: Random) -> str:
    """Eight statements about eight subjects in wordings never trained, one of them the fact's."""
    chosen = [fact]
    while len(chosen) < PASSAGE_LINES:
        other = draw.choice(others)
        if all(other.subject != kept.subject for kept in chosen):
            chosen.append(other)
    draw.shuffle(chosen)
    return "\n".join(
        fill(draw.choice(WORDINGS[f.relation].statements[-HELD_OUT_STATEMENTS:]), subject=f.subject, answer=f.answer)
        for f in chosen
    )


def fact_questions(facts: Sequence[Fact]) -> Iterator[dict]:
    """Rows of the test: each chosen fact once in a trained and once in a held-out wording of its question.

    Fields: id, prompt, answer, relation, group, exposures, asked, wording (`seen` or `held_out`), open_book (a passage
    that holds the answer). All towns are asked, of the real facts a share fixed by the seed.
    """
    draw = Random(SEED + 3)
    by_group: dict[str, list[Fact]] = {}
    for fact in facts:
        by_group.setdefault(fact.group, []).append(fact)
    for fact in facts:
        if fact.group == "real" and draw.random() >= REAL_TEST_SHARE:
            continue
        wording = WORDINGS[fact.relation]
        passage = _passage(fact, by_group[fact.group], draw)
        for label, question in (("seen", draw.choice(wording.trained_questions)), ("held_out", wording.questions[-1])):
            yield {
                "id": f"{fact.relation}:{fact.subject}:{label}", "prompt": prompt(question, fact.subject),
                "answer": fact.answer, "relation": fact.relation, "group": fact.group, "exposures": fact.exposures,
                "asked": fact.asked, "wording": label, "open_book": passage,
            }  # fmt: skip
