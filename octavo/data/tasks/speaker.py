"""Made-up plays: characters, layouts, stage directions, and sentences of real prose put into the characters' mouths.

Covers: the play as pieces of text with each line's speaker. Does not cover: tokens, choosing what is asked.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from random import Random

from octavo.data.tasks import lists, names
from octavo.data.tasks.chapter import roman, spelled
from octavo.data.tasks.frames import dressed
from octavo.data.tasks.wordings import SPEAKER_QUESTIONS

_CLEAN = re.compile(r"[\"“”_*#\[\]{}<>|`~^=\\]+")
_SPACES = re.compile(r"\s+")
_SENTENCE_END = re.compile(r"(?<=[.!?;:])\s+(?=[A-Z'])")
_ROLES = [
    "First {}",
    "Second {}",
    "Third {}",
    "A {}",
    "Old {}",
    "Young {}",
    "The {}",
    "{}",
    "{}",
]  # filled with a trade
_GROUPS = ("All", "Both", "Chorus", "Lord", "Lords", "Servant", "Messenger", "Soldiers", "Citizens", "Another",
"Prologue")
_LONG_SPEECH = 450  # characters after which a speech in prose ends
_SCENES = [
    "A room in {}.",
    "The {thing} before {}.",
    "Another part of {}.",
    "{}. A {adj} {thing}.",
    "The {adj} {thing}.",
    "On the road to {}.",
    "Near {}.",
    "The same.",
    "Before the {thing} of {}.",
]


@dataclass(frozen=True, slots=True)
class Layout:
    """How a play is set: text around a name, between lines, after a speech, and how directions look."""

    before_name: str
    after_name: str
    line_end: str
    speech_end: str
    indent: str
    direction: tuple[str, str]
    capitals: bool
    verse: bool


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of the play's text. kind: "name" (the speaker's name), "line" (spoken words), "other".

    Pieces join at borders of words; a space in front of a word belongs to the word's piece.
    speech: number of the speech it belongs to, -1 outside of speeches.
    """

    text: str
    kind: str
    speech: int


def speaker_question(quote: str, draw: Random, *, held_out: bool = False) -> str:
    """Who says this?"""
    text = SPEAKER_QUESTIONS.pick(draw, held_out=held_out).format(q=quote)
    return text if held_out else dressed(text[:1].upper() + text[1:], draw)


def layout(draw: Random) -> Layout:
    """One of the common ways to print a play."""
    before, after, line_end, indent = draw.choice(
        (("", ":\n", "\n", ""), ("", ":\n", "\n", ""), ("", ":\n", "\n", ""), ("**", "**  \n", "  \n", ""),
         ("**", "**\n", "\n", ""), ("", "\n", "\n", ""), ("", ".\n", "\n", ""), ("", ". ", "\n", ""), ("", ": ",
         "\n", ""),
         ("_", "_. ", "\n", ""), ("", "\n", "\n", "    "), ("  ", ".\n", "\n", "    "), ("", ":\n", "\n", "  "),
         ("[", "] ", "\n", ""), ("- ", ": ", "\n", ""), ("", " - ", "\n", ""), ("**", ":** ", "\n", ""))
    )  # fmt: skip
    return Layout(
        before_name=before, after_name=after, line_end=line_end, indent=indent,
        speech_end=draw.choice(("\n\n", "\n\n", "\n\n", "\n")),
        direction=draw.choice((("_", "_"), ("_", "_"), ("[", "]"), ("(", ")"), ("", ""), ("[_", "_]"))),
        capitals=draw.random() < 0.65, verse=draw.random() < 0.75,
    )  # fmt: skip


def _role(draw: Random) -> str:
    return draw.choice(_ROLES).format(draw.choice(lists.TRADES).capitalize())


def characters(draw: Random, count: int, *, capitals: bool) -> list[str]:
    """`count` different names of one to three words."""
    found: dict[str, None] = {}
    while len(found) < count:
        how = draw.random()
        if how < 0.3:
            name = draw.choice(lists.GIVEN)
        elif how < 0.55:
            name = names.coined(draw)
        elif how < 0.7:
            name = f"{draw.choice(lists.TITLES)} {draw.choice((draw.choice(lists.GIVEN), names.coined(draw)))}"
        elif how < 0.74:
            name = draw.choice(_GROUPS)
        elif how < 0.87:
            name = _role(draw)
        else:
            name = names.person(draw)
        if found and draw.random() < 0.15:
            name = names.twin_word(draw.choice(list(found)).split()[-1].capitalize(), draw)
        if len(name.split()) <= 3:
            found[name.upper() if capitals else name] = None
    return list(found)


def wrap(text: str, width: int) -> list[str]:
    """`text` in lines of at most `width` characters (a longer word stands alone)."""
    lines, line = [], ""
    for word in text.split(" "):
        if line and len(line) + 1 + len(word) > width:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}" if line else word
    return [*lines, line] if line else lines


def sentences(prose: str) -> list[str]:
    """Sentences of `prose` fit to be spoken: quotation marks and markup taken out, two words or more."""
    plain = _SPACES.sub(" ", _CLEAN.sub("", prose))
    return [part for part in _SENTENCE_END.split(plain) if " " in part and len(part) < 600]


class _Setter:
    """Sets one play; `pieces` grows."""

    def __init__(self, draw: Random, cast: int) -> None:
        self.draw = draw
        self.layout = layout(draw)
        self.cast = characters(draw, cast, capitals=self.layout.capitals)
        self.width = draw.choice((draw.randint(34, 62), draw.randint(34, 62), draw.randint(22, 34)))
        self.mean_lines = draw.choice((1.5, 2.5, 3.5, 5.0, 8.0, 12.0))
        self.capital_lines = draw.random() < 0.6  # of verse; wrapped prose has none
        self.pieces: list[Piece] = []
        self.on_stage = self._some(2, 5)
        self.act, self.scene, self.speech = 1, 0, 0
        self.heads = draw.random() < 0.85
        self.mark = draw.choice(("#", "#", ""))
        self.roman = draw.random() < 0.7

    def _some(self, low: int, high: int) -> list[str]:
        return self.draw.sample(self.cast, min(len(self.cast), self.draw.randint(low, high)))

    def _other(self, text: str) -> None:
        self.pieces.append(Piece(text, "other", -1))

    def heading(self) -> None:
        """The heading of the next scene, of a new act now and then."""
        draw = self.draw
        if not self.heads:
            return
        number = roman if self.roman else (lambda n: spelled(n).upper())
        upper = self.mark == "#" or draw.random() < 0.5
        if self.scene == 0 or draw.random() < 0.25:
            self.act += self.scene > 0
            self.scene = 0
            mark = "## " if self.mark else ""
            self._other(f"{mark}{'ACT' if upper else 'Act'} {number(self.act)}\n\n")
        self.scene += 1
        place = draw.choice(_SCENES).replace("{}", names.town(draw))
        place = place.replace("{thing}", draw.choice(lists.THINGS)).replace("{adj}", draw.choice(lists.ADJECTIVES))
        mark = "### " if self.mark else ""
        title = f"{'SCENE' if upper else 'Scene'} {number(self.scene)}. {place[:1].upper() + place[1:]}"
        self._other(f"{mark}{title}\n\n")
        self.on_stage = self._some(2, 6)
        self.direction("Enter " + self._list(self.on_stage))

    def _list(self, people: list[str]) -> str:
        return people[0] if len(people) == 1 else f"{', '.join(people[:-1])} and {people[-1]}"

    def direction(self, text: str) -> None:
        """A stage direction as its own paragraph."""
        left, right = self.layout.direction
        self._other(f"{left}{text}{right}\n\n")

    def happening(self) -> None:
        """Somebody comes or goes."""
        draw = self.draw
        if draw.random() < 0.5:
            newcomer = draw.choice(self.cast)
            if newcomer not in self.on_stage:
                self.on_stage.append(newcomer)
            self.direction(f"Enter {newcomer}{draw.choice(('', '', ', with a ' + draw.choice(lists.THINGS)))}")
        else:
            leaver = draw.choice(self.on_stage)
            if len(self.on_stage) > 2:
                self.on_stage.remove(leaver)
            self.direction(draw.choice(("Exit", f"Exit {leaver}", f"Exeunt all but {leaver}", "Aside", "Flourish")))

    def say(self, name: str, lines: list[str]) -> None:
        """One speech."""
        form, number = self.layout, self.speech
        self.speech += 1
        add = self.pieces.append
        before = form.before_name
        if before.endswith(" "):
            before, name = before[:-1], " " + name
        if before:
            add(Piece(before, "other", number))
        add(Piece(name, "name", number))
        inline = not form.after_name.endswith("\n")
        joint = form.after_name.rstrip(" ") if inline else form.after_name
        add(Piece(joint, "other", number))
        for index, line in enumerate(lines):
            lead = " " if inline and index == 0 else form.indent
            last = index == len(lines) - 1
            add(Piece(lead + line, "line", number))
            end = form.speech_end if last else form.line_end
            if last and form.line_end == "  \n":
                end = "\n\n"
            add(Piece(end, "other", number))


def play(draw: Random, prose: str, *, cast: int) -> list[Piece]:
    """A play that speaks all of `prose` (plain text), by up to `cast` characters."""
    setter = _Setter(draw, cast)
    if draw.random() < 0.5:
        setter._other(
            f"{'# ' if setter.mark else ''}The {draw.choice(lists.NOUNS).capitalize()} of {names.town(draw)}\n\n"
        )
    setter.heading()
    parts = sentences(prose)
    last = ""
    place = 0
    while place < len(parts):
        wanted = min(40, 1 + int(draw.expovariate(1 / setter.mean_lines)))
        chunk: list[str] = []
        lines: list[str] = []
        while place < len(parts) and len(lines) < wanted:
            chunk.append(parts[place])
            place += 1
            joined = " ".join(chunk)
            lines = wrap(joined, setter.width) if setter.layout.verse else chunk
            if not setter.layout.verse and len(joined) > _LONG_SPEECH:
                break
        if setter.layout.verse:
            lines = lines[:wanted]
            if setter.capital_lines:
                lines = [line[:1].upper() + line[1:] for line in lines]
        name = draw.choice([n for n in setter.on_stage if n != last] or setter.cast)
        last = name
        setter.say(name, lines)
        if draw.random() < 0.08:
            setter.happening()
        if draw.random() < 0.02:
            setter.heading()
    return setter.pieces
