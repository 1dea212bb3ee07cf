"""Several works one behind another: made-up title pages, and questions for the work that something stands in.

Covers: titles and their pages, questions about a quoted passage and about a character. Does not cover: where works
begin and end, what is asked (`octavo.data.works` in training rows, `octavo.data.tasks.planted_works` in tests).

Titles are made up, for a title that is known by heart would answer without the page. Those of tests are of forms that
training never draws, and so are half of the lines around them.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from octavo.data.tasks import lists, names
from octavo.data.tasks.fact import Statement
from octavo.data.tasks.frames import dressed
from octavo.data.tasks.phrasing import Phrasing
from octavo.data.tasks.wordings import Wordings

_WORK = "[book|work|story|text|volume|play|tale|novel|piece]"
PASSAGE_QUESTIONS = Wordings(
    (
        'Which book is "{q}" from?', 'From which work is "{q}"?', 'In which work does "{q}" stand?',
        'Which of the works contains "{q}"?', 'Name the work with the words "{q}".', 'What is the title of the work '
        'with "{q}"?', 'In which play or book is "{q}"?', '"{q}" - from which work?', 'Which story has "{q}"?',
        'Give the title of the book in which "{q}" stands.', 'What work are the words "{q}" from?',
        'In which of the texts does one read "{q}"?',
    ),
    (
        'Out of which work is "{q}" taken?', 'I copied out "{q}"; what was the work called?',
        'What is the name of the volume that says "{q}"?', 'To which of these works do the words "{q}" belong?',
        'Somebody quotes "{q}". Under what title was that printed?', 'Which title would I look under to read "{q}"?',
    ),
    Phrasing(
        f'[In|From] [which|what] {_WORK} [is|do we read|are the words|is the line|is the sentence] "{{q}}"?',
        f'[Which|What] {_WORK} [has|contains|holds|includes|gives] [the words |the sentence |the passage |]"{{q}}"?',
        f'[Name|Tell me|Find|Give|State|Identify] the {_WORK} [with|that has|containing|that contains] "{{q}}".',
        f'[What is the title|Give the title|I need the title|Tell me the title] of the {_WORK} [with|that has|'
        'containing] "{q}"[?|.]',
        f'"{{q}}" - [which|what] {_WORK}[| is that]?',
        f'The [words|sentence|passage|line] "{{q}}": [in|from] which {_WORK}?',
        f'{_WORK} with "{{q}}"',
        f"[Which|What] {_WORK} has [“{{q}}”|'{{q}}']?",
    ),
)  # fmt: skip
CHARACTER_QUESTIONS = Wordings(
    (
        "In which work does {e} appear?", "Which book has {e} in it?", "In which book do we meet {e}?",
        "Which of the works tells of {e}?", "Name the work in which {e} appears.", "From which work is {e}?",
        "What is the title of the work with {e}?", "In which play or book does {e} come up?", "Which story is {e} in?",
        "{e} is a character of which work?", "Which of the texts mentions {e}?", "Give the title of the work with {e}.",
    ),
    (
        "Somebody called {e} turns up in one of the works: in which?", "To which of these works does {e} belong?",
        "Which title would I look under to read about {e}?", "What is the volume called whose people include {e}?",
        "I remember {e}, but not the work. What was its name?", "Out of which of the works do we know {e}?",
    ),
    Phrasing(
        f"[In|From] [which|what] {_WORK} [is|do we meet|do I find|does one find|comes] [{{e}}|the character {{e}}]?",
        f"[Which|What] {_WORK} [has|mentions|names|tells of|speaks of|is about|features] {{e}}?",
        f"[Name|Tell me|Find|Give|State|Identify] the {_WORK} [with|that names|that mentions|in which we meet] {{e}}.",
        f"[What is the title|Give the title|I need the title|Tell me the title] of the {_WORK} [with|about|that names]"
        " {e}[?|.]",
        f"{{e}} - [which|what] {_WORK}[| is that]?",
        f"{{e}} [appears|is mentioned|is met with|lives] in [which|what] {_WORK}?",
        f"{_WORK} with {{e}}",
    ),
)  # fmt: skip


def _cap(word: str) -> str:
    return word[:1].upper() + word[1:]


def _train_title(draw: Random) -> str:
    adjective, thing, other = (_cap(draw.choice(words)) for words in (lists.ADJECTIVES, lists.THINGS, lists.THINGS))
    given, animal, noun = draw.choice(lists.GIVEN), _cap(draw.choice(lists.ANIMALS)), _cap(draw.choice(lists.NOUNS))
    trade = _cap(draw.choice(lists.TRADES))
    return draw.choice(
        (f"The {adjective} {thing}", f"{given} and the {animal}", f"{noun} and {_cap(draw.choice(lists.NOUNS))}",
         f"The {trade} of {names.town(draw)}", f"The {thing} and the {other}", f"{given}'s {thing}",
         f"In {names.town(draw)}", f"The {animal} at the {thing}", names.person(draw), f"{adjective} {noun}")
    )  # fmt: skip


def _test_title(draw: Random) -> str:
    noun, thing, animal = (_cap(draw.choice(words)) for words in (lists.NOUNS, lists.THINGS, lists.ANIMALS))
    given, trade = draw.choice(lists.GIVEN), _cap(draw.choice(lists.TRADES))
    return draw.choice(
        (f"No {noun} for {given}", f"Beyond {names.town(draw)}", f"{noun} without the {thing}",
         f"The {trade} who Feared the {animal}", f"Seven Days in {names.town(draw)}", f"Farewell to the {thing}",
         f"What {given} Lost")
    )  # fmt: skip


_TRAIN_LINES: tuple[Callable[[Random], str], ...] = (
    lambda draw: "", lambda draw: "", lambda draw: f"\n\nby {names.person(draw)}",
    lambda draw: f"\nBy {names.person(draw)}",
    lambda draw: draw.choice(("\n\nA Novel", "\n\nA Play", "\n\nA Comedy", "\n\nA Story", "\n\nA Tragedy")),
    lambda draw: f"\n\n{draw.choice(lists.PLACES)}, {draw.randint(1650, 1930)}",
    lambda draw: f"\n\nby {names.person(draw)}\n\n{draw.choice(lists.PLACES)} {draw.randint(1650, 1930)}",
)  # fmt: skip
_TEST_LINES: tuple[Callable[[Random], str], ...] = (
    lambda draw: "",
    lambda draw: f"\n\nfrom the pen of {names.person(draw)}",
    lambda draw: f"\n\nprinted for {names.person(draw)} in {draw.choice(lists.PLACES)}",
    lambda draw: f"\n\nby {names.person(draw)}",
)
_MARKS = ("", "", "", "# ", "## ", "* * *\n\n")


def title_pages(draw: Random, count: int, *, held_out: bool = False) -> list[Statement]:
    """`count` pages in one layout; no title is a part of another one."""
    mark, lines = draw.choice(_MARKS), draw.choice(_TEST_LINES if held_out else _TRAIN_LINES)
    upper = draw.random() < 0.2
    titles: list[str] = []
    while len(titles) < count:
        made = _test_title(draw) if held_out else _train_title(draw)
        small = made.lower()
        if not any(small in other.lower() or other.lower() in small for other in titles):
            titles.append(made)
    return [Statement(mark, title.upper() if upper else title, lines(draw)) for title in titles]


def passage_question(quote: str, draw: Random, *, held_out: bool = False) -> str:
    """Which work are these words from?"""
    return _asked(PASSAGE_QUESTIONS.pick(draw, held_out=held_out).format(q=quote), draw, held_out)


def character_question(name: str, draw: Random, *, held_out: bool = False) -> str:
    """Which work does this character appear in?"""
    return _asked(CHARACTER_QUESTIONS.pick(draw, held_out=held_out).format(e=name), draw, held_out)


def _asked(text: str, draw: Random, held_out: bool) -> str:
    text = text[:1].upper() + text[1:]
    return text if held_out else dressed(text, draw)
