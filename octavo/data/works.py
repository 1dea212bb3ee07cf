"""Rows of several books or plays one behind another, each behind a made-up title page, and questions for the work.

Covers: the ground, its pages, passages and characters that are asked for. Does not cover: titles and wordings
(octavo.data.tasks.work), cells of tests (octavo.data.tasks.planted_works).

Text is of the pack alone. A work is a run of books, or a made-up play; its own headings, where the run has any, stay.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from random import Random

import numpy as np

from octavo.data import ground as grounds
from octavo.data.ground import Encode, Ground, Line
from octavo.data.linked import quotable, ranges
from octavo.data.prose import TextSource
from octavo.data.sheet import Ask, Insert, Sheet
from octavo.data.tasks import lists
from octavo.data.tasks.work import character_question, passage_question, title_pages

_SOURCE = "books"
_MOST = 8  # works of a row
_PIECE = 256  # tokens of a work at least
_PASSAGES = 0.6  # share of questions that quote; the others name a character
_TRIED = 6  # passages drawn for one that is asked
_MENTIONS = 3  # of a character of prose in its work
_NAME = re.compile(rb"(?<=[a-z,;] )[A-Z][a-z]{3,14}\b")
_PLANTED = frozenset((*lists.GIVEN, *lists.PLACES, *lists.TITLES, *lists.MONTHS, *lists.WEEKDAYS))


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """Pages of a row by work (number of the insert, and which of its pieces is the title), and how many questions for
    characters are left to be asked."""

    pages: tuple[tuple[int, int], ...] = ()
    left: int = 0


def several(draw: Random, source: TextSource, encode: Encode, length: int, *, plays: bool) -> Ground:
    """Works that make `length` tokens together, with a blank line between two of them: three to eight (two where there
    is no room), none more than three times as long as another. About the last third of a row's ground is cut off when
    its questions are put in."""
    [gap] = encode(["\n\n"])
    count = max(2, min(draw.randint(3, _MOST), length // _PIECE))
    shares = [draw.uniform(0.5, 1.5) for _ in range(count)]
    parts: list[np.ndarray] = []
    lines: list[Line] = []
    starts: list[int] = []
    place = speech = 0
    for number, share in enumerate(shares):
        size = length - place if number == count - 1 else int(length * share / sum(shares)) - len(gap)
        part = grounds.play(draw, source, encode, size) if plays else _book(draw, source, size)
        starts.append(place)
        lines += [_moved(line, place, speech) for line in part.lines]
        speech = lines[-1].speech + 1 if lines else 0
        parts += [part.tokens, np.array(gap, dtype=np.uint16)]
        place += len(part.tokens) + len(gap)
    return Ground(np.concatenate(parts[:-1]), source, tuple(lines), works=tuple(starts))


def _book(draw: Random, source: TextSource, size: int) -> Ground:
    return Ground(source.run(draw, size, source=_SOURCE), source)


def _moved(line: Line, by: int, speech: int) -> Line:
    return replace(
        line, start=line.start + by, stop=line.stop + by, name_start=line.name_start + by,
        name_stop=line.name_stop + by, speech=line.speech + speech,
    )  # fmt: skip


def passages(sheet: Sheet, questions: int) -> Begun:
    """Put the title pages in (those of works that are cut off later go with them) and quote passages for about
    `_PASSAGES` of the questions; nothing where the ground is no row of works. To be called before anything else is put
    in or quoted."""
    ground, draw, starts = sheet.ground, sheet.draw, sheet.ground.works
    if not starts:
        return Begun()
    pages = _pages(sheet, starts)
    wanted = sum(draw.random() < _PASSAGES for _ in range(questions))
    asked = 0
    for start, stop in ranges(sheet, _TRIED * wanted) if wanted else ():
        owner = _owner(starts, start)
        if asked == wanted:
            break
        if _owner(starts, stop - 1) != owner or not quotable(sheet, start, stop):
            continue
        asked += 1
        sheet.take(start, stop)
        quote = (ground.text(start, stop) or "").rstrip(".")
        _ask(sheet, pages[owner], passage_question(quote, draw), (start, stop))
    return Begun(pages=pages, left=questions - asked)


def characters(sheet: Sheet, begun: Begun) -> None:
    """Ask in which work a character appears whom nothing else in the row names. To be called when all else is put in.
    """
    starts = sheet.ground.works
    if not begun.left or not starts:
        return
    said = "\n".join("".join(insert.pieces) for insert in sheet.plan.inserts).lower()
    found = []
    for number, names in enumerate(_named(sheet.ground, [*starts, len(sheet.ground.tokens)])):
        found += [(number, name, span) for name, span in names.items()
                  if span[1] < 0.97 * sheet.plan.used and name.lower() not in said]  # fmt: skip
    for number, name, span in sheet.draw.sample(found, min(len(found), begun.left)):
        _ask(sheet, begun.pages[number], character_question(name, sheet.draw), span)


def _pages(sheet: Sheet, starts: Sequence[int]) -> tuple[tuple[int, int], ...]:
    made = []
    for at, page in zip(starts, title_pages(sheet.draw, len(starts)), strict=True):
        before, answer = page.before, page.answer
        if before.endswith(" "):
            before, answer = before[:-1], " " + answer
        pieces = [text for text in (before, answer, page.after + "\n\n") if text]
        sheet.plan.inserts.append(Insert(at, pieces, [True] * len(pieces)))
        made.append((len(sheet.plan.inserts) - 1, 1 if before else 0))
    return tuple(made)


def _owner(starts: Sequence[int], token: int) -> int:
    return int(np.searchsorted(np.array(starts), token, side="right")) - 1


def _ask(sheet: Sheet, page: tuple[int, int], question: str, source: tuple[int, int]) -> None:
    sheet.plan.asks.append(
        Ask("work", source[1], question, insert=page[0], answer=page[1], source=source, need=source[1])
    )


def _named(ground: Ground, borders: Sequence[int]) -> list[dict[str, tuple[int, int]]]:
    """By work the names that it alone has, each with the tokens of its first mention: of speakers in plays, else of
    words with a capital inside of sentences that come often enough."""
    pieces = ground.source.vocabulary.pieces
    texts = [[pieces[token] for token in ground.tokens[a:b].tolist()]
             for a, b in pairwise(borders)]  # fmt: skip
    lower = [b"".join(text).lower() for text in texts]
    made = []
    for number, text in enumerate(texts):
        begin, end = borders[number], borders[number + 1]
        names = _speakers(ground, begin, end) if ground.is_play else _capitals(text, begin)
        others = lower[:number] + lower[number + 1 :]
        made.append({name: span for name, span in names.items()
                     if not any(name.lower().encode() in other for other in others)})  # fmt: skip
    return made


def _speakers(ground: Ground, begin: int, end: int) -> dict[str, tuple[int, int]]:
    found: dict[str, tuple[int, int]] = {}
    for line in ground.lines:
        name = ground.text(line.name_start, line.name_stop) if begin <= line.name_start and line.stop <= end else None
        if name is not None:
            found.setdefault(name, (line.name_start, line.name_stop))
    return found


def _capitals(text: Sequence[bytes], begin: int) -> dict[str, tuple[int, int]]:
    ends = np.cumsum([len(piece) for piece in text])
    matches = list(_NAME.finditer(b"".join(text)))
    often = Counter(match.group() for match in matches)
    found: dict[str, tuple[int, int]] = {}
    for match in matches:
        name = match.group().decode()
        if often[match.group()] >= _MENTIONS and name not in _PLANTED and name not in found:
            first, last = np.searchsorted(ends, [match.start(), match.end() - 1], side="right").tolist()
            found[name] = begin + first, begin + last + 1
    return found
