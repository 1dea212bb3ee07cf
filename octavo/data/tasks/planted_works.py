"""Cells of several plays or books put one behind another without a heading, each behind a title page that is planted.

Covers: the document, questions for the work in which a quoted passage stands or a character appears. Does not cover:
titles and wordings (octavo.data.tasks.work), choosing a title by likelihood (octavo.evals.choice).

The texts' own headings are cut, titles are made up: what is asked is answered by the document alone. A model that was
never trained on this can say which of the titles is likeliest (`Question.choices`, chance is one in as many as there
are), and may quote the title, since chapters are asked likewise; it has nothing else to go by than that a page stands
before what is asked about. Ways to do it are to look for the last title page before the passage, which is far away, or
to have the work's drift in the entries of the 128:1 layers.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from octavo.config.errors import LimitError
from octavo.data.tasks.cell import Maker, Question
from octavo.data.tasks.fact import Statement
from octavo.data.tasks.found import Sentence, evenly, sentences, spoken_lines
from octavo.data.tasks.work import character_question, passage_question, title_pages

_TITLE = re.compile(r"(?m)^# .*$")
_HEADING = re.compile(r"(?m)^#+ .*$\n*")
_NAME = re.compile(r"(?<=[a-z,;] )[A-Z][a-z]{3,14}\b")
_LEAST, _MOST = 3, 8  # works of a document, where their texts are long enough
_PIECE = 2048  # tokens of a work at least, unless the document would have fewer than `_LEAST`
_MENTIONS = 3  # of a character in its work
_WORDS = 10  # quoted of a sentence


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One work of the document: characters of its page, and of its text start .. stop."""

    page: Statement
    page_at: int
    start: int
    stop: int


def works(maker: Maker) -> tuple[str, list[Question]]:
    """Three to eight works (more where they are too short for the length); half of the questions quote a passage, half
    name a character that the other works do not name, as far as there are any. Marks tell which, and of how many."""
    document, parts = _laid_out(maker, _pieces(maker))
    titles = tuple(part.page.answer for part in parts)
    named = _characters(maker, document, parts, maker.count // 2)

    def asked(part: Part, sort: str, prompt: str, source: tuple[int, int]) -> Question:
        page = part.page_at, part.page_at + len(part.page.text)
        return Question(
            prompt=prompt, answer=part.page.answer, source=source, depth=source[0] / len(document),
            marks=(sort, f"of {len(parts)}"), evidence=(page, source), choices=titles,
        )  # fmt: skip

    questions = [
        asked(part, "character", character_question(name, maker.draw, held_out=True), (at, at + len(name)))
        for part, name, at in named
    ]
    for part, sentence in _passages(maker, document, parts, maker.count - len(named)):
        quote = _quoted(document, sentence)
        prompt = passage_question(quote, maker.draw, held_out=True)
        questions.append(asked(part, "passage", prompt, (sentence.start, sentence.start + len(quote))))
    return document, questions


def _pieces(maker: Maker) -> list[tuple[Statement, str]]:
    """Pages and pieces of different works, in an order that is drawn, which fill the length together."""
    texts = list(maker.works) if len(maker.works) > 1 else _TITLE.split(maker.text)
    texts = [cut for text in texts if (cut := _HEADING.sub("", text).strip("\n"))]
    maker.draw.shuffle(texts)
    if len(texts) < _LEAST:
        raise LimitError(f"the text has {len(texts)} works; a cell of works needs {_LEAST}")
    wanted = max(_LEAST, min(_MOST, maker.length // _PIECE, len(texts)))
    pages = title_pages(maker.draw, len(texts), held_out=True)
    made: list[tuple[Statement, str]] = []
    room = maker.length - 1
    for page, text in zip(pages, texts, strict=True):
        if room <= _PIECE // 8 and len(made) >= wanted:
            break
        room -= maker.size(_between(made) + page.text + "\n\n")
        piece = _piece(maker, text, room // max(1, wanted - len(made)))
        room -= maker.size(piece)
        made.append((page, piece))
    return made


def _between(made: Sequence[object]) -> str:
    return "\n\n" if made else ""


def _piece(maker: Maker, text: str, tokens: int) -> str:
    """So many tokens of one work from a paragraph that is drawn; all of it where it has fewer."""
    try:
        return maker.filler(tokens, text=text).rstrip("\n")
    except LimitError:
        return text


def _laid_out(maker: Maker, pieces: Sequence[tuple[Statement, str]]) -> tuple[str, list[Part]]:
    written, size, parts = [], 0, []
    for page, piece in pieces:
        before = _between(parts)
        at = size + len(before)
        start = at + len(page.text) + 2
        parts.append(Part(page=page, page_at=at, start=start, stop=start + len(piece)))
        written += [before, page.text, "\n\n", piece]
        size = start + len(piece)
    return "".join(written), parts


def _passages(maker: Maker, document: str, parts: Sequence[Part], count: int) -> list[tuple[Part, Sentence]]:
    """Sentences whose beginning stands once in the document and within one work, evenly over the depth."""
    starts = [part.start for part in parts]

    def owner(sentence: Sentence) -> Part | None:
        part = parts[max(0, sum(start <= sentence.start for start in starts) - 1)]
        return part if part.start <= sentence.start and sentence.stop <= part.stop else None

    def fits(sentence: Sentence) -> bool:
        quote = _quoted(document, sentence)
        return (
            sentence.words >= 6 and owner(sentence) is not None and '"' not in quote and document.count(quote) == 1
        )  # fmt: skip

    chosen = evenly(sentences(document), replace(maker, count=count), fits)
    return [(part, sentence) for sentence in chosen if (part := owner(sentence)) is not None]


def _quoted(document: str, sentence: Sentence) -> str:
    """The first words of a sentence, without its full stop."""
    return " ".join(document[sentence.start : sentence.stop].split(" ")[:_WORDS]).rstrip(".")


def _characters(maker: Maker, document: str, parts: Sequence[Part], count: int) -> list[tuple[Part, str, int]]:
    """Up to `count` names with their work and the place where it first names them, as many of each work as can be."""
    lower = document.lower()
    found: list[list[tuple[Part, str, int]]] = []
    for part in parts:
        own = [
            (part, name, document.index(name, part.start))
            for name in _names(document[part.start : part.stop])
            if lower.find(name.lower(), 0, part.start) < 0 and lower.find(name.lower(), part.stop) < 0
        ]
        maker.draw.shuffle(own)
        found.append(own)
    chosen: list[tuple[Part, str, int]] = []
    while len(chosen) < count and any(found):
        for own in found:
            if own and len(chosen) < count:
                chosen.append(own.pop())
    return chosen


def _names(text: str) -> list[str]:
    """Names over the speeches of a play; of other texts capitalised words inside of sentences; each often enough."""
    spoken = Counter(line.name for line in spoken_lines(text) if line.number == 0)
    heard = spoken if len(spoken) > 1 else Counter(match.group() for match in _NAME.finditer(text))
    return [name for name, times in heard.items() if times >= _MENTIONS]
