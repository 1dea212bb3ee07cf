"""One recall cell asked of one model: read the document once, put every question to a fork of it.

Covers: the interface that a model must have, the record of every answer, shares. Does not cover: which cells
(`runner`), printing (`report`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from octavo.data.tasks.cell import FREE, Cell, Question
from octavo.engine.answer import Answer
from octavo.engine.document import Document
from octavo.evals.choice import likeliest
from octavo.evals.scoring import is_right, part_right

MAX_TOKENS = 64
_SLACK = 2  # characters by which a source may miss the end of the planted sentence


class Readable(Protocol):
    """A document that was read, as the engine gives it."""

    @property
    def nbytes(self) -> int: ...

    def ask(self, question: str, **options: Any) -> Answer: ...

    def close(self) -> None: ...


class Reader(Protocol):
    """A model that reads, as the engine gives it."""

    def read(self, sources: str, **options: Any) -> Readable: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of one question. `right`: word for word. `part`: how much of a list is right (F1), in any order.
    `source_hit`: the first source covers the characters that hold the answer's source."""

    prompt: str
    expected: str
    given: str
    right: bool
    source_hit: bool
    depth: float
    marks: tuple[str, ...] = ()
    part: float = 0.0
    chosen: bool | None = None


@dataclass(frozen=True, kw_only=True)
class CellResult:
    """A cell's outcomes. control: "none", or what was changed. seconds of reading and of all questions."""

    kind: str
    text: str
    length: int
    tokens: int
    seed: int
    control: str
    outcomes: tuple[Outcome, ...]
    read_seconds: float
    ask_seconds: float
    cache_bytes: int

    @property
    def right(self) -> int:
        """Right answers."""
        return sum(outcome.right for outcome in self.outcomes)

    @property
    def chosen(self) -> tuple[int, int]:
        """Right choices, and questions that had one."""
        told = [outcome.chosen for outcome in self.outcomes if outcome.chosen is not None]
        return sum(told), len(told)

    @property
    def source_hits(self) -> int:
        """Right answers whose first source covers the planted sentence."""
        return sum(outcome.right and outcome.source_hit for outcome in self.outcomes)

    def by_depth(self, parts: int = 4) -> list[tuple[int, int]]:
        """(right, asked) in each of `parts` equal parts of the document's depth."""
        table = [[0, 0] for _ in range(parts)]
        for outcome in self.outcomes:
            row = table[min(parts - 1, int(outcome.depth * parts))]
            row[0] += outcome.right
            row[1] += 1
        return [(right, asked) for right, asked in table]

    def by_mark(self) -> dict[str, tuple[int, int]]:
        """(right, asked) for each mark that questions carry."""
        table: dict[str, list[int]] = {}
        for outcome in self.outcomes:
            for mark in outcome.marks:
                row = table.setdefault(mark, [0, 0])
                row[0] += outcome.right
                row[1] += 1
        return {mark: (row[0], row[1]) for mark, row in sorted(table.items())}


def covers(answer: Answer, source: tuple[int, int]) -> bool:
    """The first source of `answer` spans the characters `source`, but for two at each end."""
    if not answer.sources:
        return False
    first = answer.sources[0]
    return first.start <= source[0] + _SLACK and first.end >= source[1] - _SLACK


def outcome(question: Question, answer: Answer, *, chosen: bool | None = None) -> Outcome:
    """The record of one answered question."""
    right = is_right(answer.text, question.answer)
    return Outcome(
        prompt=question.prompt, expected=question.answer, given=answer.text, right=right,
        source_hit=covers(answer, question.source), depth=question.depth, marks=question.marks,
        part=part_right(answer.text, question.answer), chosen=chosen,
    )  # fmt: skip


def run_cell(
    reader: Reader,
    cell: Cell,
    *,
    text: str = "",
    control: str = "none",
    options: dict[str, Any] | None = None,
    max_tokens: int = MAX_TOKENS,
    progress: Callable[[str, int, int], None] | None = None,
) -> CellResult:
    """Read the cell's document and ask all its questions, greedily.

    options: `controls` is handed to both reading and asking, the others to asking. progress: called with
    ("read" | "ask", done, all). The document is closed whatever happens. Kinds whose answers are no single quotation
    (`octavo.data.tasks.cell.FREE`) are answered in any words; those with choices are also asked which is likeliest.
    """
    options = dict(options or {})
    if cell.kind in FREE:
        options["quote"] = False
    started = time.perf_counter()
    watch = {} if progress is None else {"progress": lambda done, total, _: progress("read", done, total)}
    reading = {name: value for name, value in options.items() if name == "controls"}
    document = reader.read(cell.document, **watch, **reading)
    read_seconds = time.perf_counter() - started
    started = time.perf_counter()
    try:
        outcomes = _asked(document, cell.questions, {"max_tokens": max_tokens, **options}, progress)
        cache_bytes = document.nbytes
    finally:
        document.close()
    return CellResult(
        kind=cell.kind, text=text, length=cell.length, tokens=cell.tokens, seed=cell.seed, control=control,
        outcomes=outcomes, read_seconds=read_seconds, ask_seconds=time.perf_counter() - started,
        cache_bytes=cache_bytes,
    )  # fmt: skip


def _asked(
    document: Readable, questions: Sequence[Question], options: dict[str, Any],
    progress: Callable[[str, int, int], None] | None,
) -> tuple[Outcome, ...]:  # fmt: skip
    outcomes = []
    for number, question in enumerate(questions, 1):
        answer = document.ask(question.prompt, temperature=0.0, **options)
        outcomes.append(outcome(question, answer, chosen=_chosen(document, question, options)))
        if progress is not None:
            progress("ask", number, len(questions))
    return tuple(outcomes)


def _chosen(document: Readable, question: Question, options: dict[str, Any]) -> bool | None:
    """Whether the right one of the question's choices is the likeliest, where that can be asked."""
    if not question.choices or not isinstance(document, Document):
        return None
    number, _ = likeliest(document, question.prompt, question.choices, controls=options.get("controls"))
    return question.choices[number] == question.answer
