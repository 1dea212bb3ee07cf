"""Test cells: one document of a given length with questions whose answers are known, spread over its depth.

Covers: the values, the length in tokens, drawing filler, planting between paragraphs, the registry of kinds. Does not
cover: each kind's questions (octavo.data.tasks.planted, planted_linked, found), asking a model (octavo.evals).

Wordings and number ranges are those that training never draws; seeds of tests begin at 10^9. Filler is text given by
the caller, which is to be text that training never saw.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random

from octavo.config.errors import LimitError, UsageError
from octavo.text.tokenizer import Tokenizer

TEST_SEEDS = 1_000_000_000
TOLERANCE = 0.02
FREE = frozenset({"multi_value", "two_hop", "two_hop_steps", "tracking", "ordering", "counting", "work"})
"""Kinds that are answered in any words: those whose answers are put together or made, so that they are no single
quotation of the document, and those whose question looks first at another place than the answer's: at the first hop, at
the choices that it names itself, or at a passage far behind the title. A quotation must begin where the question looks
(`octavo.engine.quoting`)."""
_WORD = re.compile(r"(?<![\w'-])[a-z]{5,12}(?![\w'-])")


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question, its answer, the characters start .. end of the document that hold the answer's source, the depth
    (0 is the beginning), and marks to report apart (a fact: is its wording unseen). `evidence`: all characters that the
    answer hangs on, in order, where they are more than the source. `choices`: answers of which one is right, where they
    are few and all told by the document."""

    prompt: str
    answer: str
    source: tuple[int, int]
    depth: float
    marks: tuple[str, ...] = ()
    evidence: tuple[tuple[int, int], ...] = ()
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A document of `tokens` tokens (BOS included) and its questions, in order of depth."""

    kind: str
    length: int
    seed: int
    document: str
    tokens: int
    questions: tuple[Question, ...]


@dataclass(frozen=True, kw_only=True)
class Planting:
    """Text to plant as a paragraph of its own, and its questions: prompt, answer, source inside `text`, marks. The
    plantings of a `group` are the evidence of all questions asked in it."""

    text: str
    asks: tuple[tuple[str, str, tuple[int, int], tuple[str, ...]], ...] = ()
    group: int | None = None


@dataclass
class Maker:
    """What a kind works with: filler text, the draw, the tokenizer, the wanted length and number of questions, and the
    filler's works apart where they are known."""

    draw: Random
    text: str
    tokenizer: Tokenizer
    length: int
    count: int
    works: tuple[str, ...] = ()
    _words: list[str] = field(default_factory=list)

    def word(self) -> str:
        """A real word of the filler."""
        if not self._words:
            self._words = _WORD.findall(self.text[:400_000]) or ["harbour"]
        return self.draw.choice(self._words)

    def size(self, text: str) -> int:
        """Tokens of `text`."""
        return len(self.tokenizer.encode(text))

    def filler(self, tokens: int, *, text: str | None = None) -> str:
        """`tokens` tokens of filler from a paragraph drawn by seed, the text's beginning following its end."""
        text = self.text if text is None else text
        start = text.find("\n\n", self.draw.randrange(len(text))) + 2 if "\n\n" in text else 0
        start = 0 if start < 2 else start
        turned = text[start:].rstrip("\n") + "\n\n" + text[:start]
        guess = int(tokens * 4.6) + 200
        while True:
            part = turned[:guess]
            ids, starts = self.tokenizer.encode_with_offsets(part)
            if len(ids) > tokens:
                return part[: starts[tokens]]
            if guess >= len(turned):
                raise LimitError(f"filler has only {len(ids)} tokens, the cell needs {tokens}")
            guess = min(len(turned), int(guess * 1.3))

    def plant(self, plantings: list[Planting]) -> tuple[str, list[Question]]:
        """A document of the wanted length with `plantings` between its paragraphs, evenly over the depth."""
        inside = sum(self.size("\n\n" + planting.text) for planting in plantings)
        room = self.length - 1 - inside
        if room < self.length // 4:
            raise LimitError(f"{len(plantings)} plantings take {inside} of the cell's {self.length} tokens; ask fewer")
        filler = self.filler(room)
        borders = [0, *(match.end() for match in re.finditer(r"\n\n+", filler))]
        parts: list[str] = []
        questions: list[tuple[Planting, int]] = []
        place = size = 0
        for number, planting in enumerate(plantings):
            target = int(len(filler) * (number + 0.5) / len(plantings))
            index = bisect.bisect_left(borders, target)
            near = borders[max(0, index - 1) : index + 1] or [0]
            border = max(place, min(near, key=lambda at: abs(at - target)))
            parts.append(filler[place:border])
            size += border - place
            place = border
            questions.append((planting, size))
            parts.append(planting.text + "\n\n")
            size += len(planting.text) + 2
        document = "".join([*parts, filler[place:]])
        evidence: dict[int, list[tuple[int, int]]] = {}
        for planting, at in questions:
            if planting.group is not None:
                evidence.setdefault(planting.group, []).append((at, at + len(planting.text)))
        return document, [
            Question(prompt=prompt, answer=answer, source=(at + begin, at + end), depth=at / len(document), marks=marks,
                     evidence=() if planting.group is None else tuple(evidence[planting.group]))
            for planting, at in questions
            for prompt, answer, (begin, end), marks in planting.asks
        ]  # fmt: skip


Kind = Callable[[Maker], tuple[str, list[Question]]]


def kinds() -> dict[str, Kind]:
    """Every kind by name."""
    from octavo.data.tasks import found, planted, planted_linked, planted_works

    return {
        "fact": planted.facts, "definition": planted.definitions, "key_value": planted.key_values,
        "chapter": planted.chapters, "quotation": found.quotations, "speaker": found.speakers,
        "multi_key": planted_linked.multi_keys, "multi_value": planted_linked.multi_values,
        "two_hop": planted_linked.two_hops, "two_hop_steps": planted_linked.two_hops_with_steps,
        "tracking": planted_linked.trackings, "ordering": planted_linked.orderings,
        "counting": planted_linked.countings, "work": planted_works.works,
    }  # fmt: skip


def build_cell(
    kind: str, length: int, seed: int, *, text: str, tokenizer: Tokenizer, count: int = 64, works: Sequence[str] = ()
) -> Cell:
    """A cell of about `count` questions over a document of `length` tokens, BOS included, met within 2 %. `works`:
    those that `text` is made of, for the kind that asks for them; where there are none it is parted at its `# ` lines.

    The same arguments give the same cell. Raises UsageError for an unknown kind or a seed of training, LimitError if
    the text is too short, or the length too small for the questions.
    """
    table = kinds()
    if kind not in table:
        raise UsageError(f"unknown kind of cell {kind!r}: it is one of {', '.join(table)}")
    if seed < TEST_SEEDS:
        raise UsageError(f"seed {seed} belongs to training; cells take seeds from {TEST_SEEDS}")
    if count < 1:
        raise UsageError(f"count is {count}; a cell needs at least 1 question")
    maker = Maker(Random(f"{kind}/{length}/{seed}"), text, tokenizer, length, count, tuple(works))
    document, questions = table[kind](maker)
    tokens = 1 + maker.size(document)
    if abs(tokens - length) > TOLERANCE * length:
        raise LimitError(f"cell {kind} came out at {tokens} tokens; {length} were wanted within 2 %")
    ordered = tuple(sorted(questions, key=lambda question: question.source))
    return Cell(kind=kind, length=length, seed=seed, document=document, tokens=tokens, questions=ordered)
