"""Why an answer about a long document came out wrong: what its evidence got in each layer, and what repairs it.

Covers: one cell asked of one model, each question under every repair; the look into the layers along the expected
answer; sorting the misses in two ways. Does not cover: attention itself (`anatomy_probe`), pages (`anatomy_report`).

Answers are in any words: a quotation's rule would hide what attention did. The look is taken while the model is given
the question and the expected answer; it departs where the token that it holds likeliest is another one. The row that
chose that token decides; of an answer that does not depart, the row of its first token. Under a repair that answer is
the greedy one, and is not made again; another one is made as far as it could still be right.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from octavo.cache.view import Controls
from octavo.data.tasks.cell import Cell, Question
from octavo.engine.document import Document
from octavo.engine.llm import LLM
from octavo.engine.texts import Texts
from octavo.evals.anatomy_probe import EvidencePicks, LayerLook, Repair, Watch, watched
from octavo.evals.scoring import is_right, part_right

REPAIRS: dict[str, Repair] = {
    "none": Repair(),
    "evidence picked": Repair(picks=EvidencePicks.ADDED),
    "a quarter of the picks": Repair(fewer=True),
    "a quarter of the rest": Repair(picks=EvidencePicks.THINNED),
    "evidence alone": Repair(picks=EvidencePicks.ALONE),
    "sharper with length": Repair(sharpened=True),
    "HCA off": Repair(hca=False),
    "evidence alone, HCA off": Repair(picks=EvidencePicks.ALONE, hca=False),
}
"""Changes while a question is read and answered; the document was read without."""
SORTS = ("not picked", "drowned", "read wrong")
_REPAIR_SORTS = {
    "evidence picked": "not picked", "a quarter of the picks": "drowned", "a quarter of the rest": "drowned",
    "evidence alone": "drowned", "sharper with length": "drowned", "HCA off": "drowned",
    "evidence alone, HCA off": "drowned",
}  # fmt: skip
PICKED = 0.5
"""Share of a statement's entries that must be among the picks of one query in one layer for it to count as picked."""
ATTENDED = 0.5
"""Probability that one head of one CSA layer must give a statement for it to count as attended: more than all else."""
MAX_TOKENS = 64
_BEYOND = 8  # tokens that a right answer may have more than the expected one: other spaces, case, marks


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerRow:
    """What one query did in one layer. picked: share of the evidence's entries among the picks, rank: place of its best
    entry (of several statements the worst of both; None but in CSA layers). Probabilities are means over heads;
    `strongest` is the head that gives evidence most. entropy: bits, of the softmax over entries; all such means."""

    layer: int
    ratio: int
    entries: int
    picked: float | None
    rank: int | None
    evidence: float
    strongest: float
    others: float
    window: float
    sink: float
    entropy: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """A question under one repair: the answer, whether it is right, F1 of a list, and the mean over the expected
    answer's tokens (its end included) of the natural logarithm of their probability."""

    given: str
    right: bool
    part: float
    logprob: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Anatomy:
    """One question. departs: which token of the expected answer is the first that the model would not give, None for
    none. reached: of the statements the answer hangs on the one that fared worst: its best share of picked entries,
    and the most probability of one head, over CSA layers and all rows up to the one that decides. sort and repaired_by:
    the two ways of sorting, None for a right answer."""

    prompt: str
    expected: str
    depth: float
    marks: tuple[str, ...]
    statements: int
    departs: int | None
    reached: tuple[float, float]
    layers: tuple[LayerRow, ...]
    tried: dict[str, Tried]
    sort: str | None
    repaired_by: str | None

    @property
    def right(self) -> bool:
        """Whether it is answered without any repair."""
        return self.tried["none"].right


@dataclass(frozen=True, kw_only=True)
class AnatomyCell:
    """A cell's questions that were taken apart; seconds of reading and of all questions. sifted: how many were right,
    and how many asked, when misses were looked for first: `questions` are no even sample then."""

    kind: str
    text: str
    length: int
    tokens: int
    seed: int
    questions: tuple[Anatomy, ...]
    read_seconds: float
    ask_seconds: float
    sifted: tuple[int, int] | None = None


def run_anatomy(
    llm: LLM, cell: Cell, *, text: str = "", max_tokens: int = MAX_TOKENS, controls: Controls | None = None,
    sift: bool = False, seconds: float | None = None, progress: Callable[[str, int, int], None] | None = None,
) -> AnatomyCell:  # fmt: skip
    """Read the cell's document once and take its questions apart, both with `controls`.

    sift: ask all of them first as the engine does, and begin with those that came out wrong, each followed by one that
    was right; else all in an order that is spread over the depth. seconds: no question is begun so long after the first
    one was. progress: called with ("read" | "sift" | "ask", done, all). UsageError for a model that cannot be watched
    (see `anatomy_probe.watched`).
    """
    with watched(llm, Watch()):
        pass  # refuses before anything is read
    started = time.perf_counter()
    told = (lambda *state: None) if progress is None else progress
    with llm.read(
        cell.document, progress=lambda done, total, _: told("read", done, total), controls=controls
    ) as document:
        read_seconds, started = time.perf_counter() - started, time.perf_counter()
        order, sifted = spread(len(cell.questions)), None
        if sift:
            order, sifted = _sifted(
                document, cell.questions, order, told, {"max_tokens": max_tokens, "controls": controls}
            )
        found: dict[int, Anatomy] = {}
        for place in order:
            if found and seconds is not None and time.perf_counter() - started >= seconds:
                break
            found[place] = take_apart(llm, document, cell.questions[place], max_tokens=max_tokens, controls=controls)
            told("ask", len(found), len(order))
    return AnatomyCell(
        kind=cell.kind, text=text, length=cell.length, tokens=cell.tokens, seed=cell.seed,
        questions=tuple(found[place] for place in sorted(found)), read_seconds=read_seconds,
        ask_seconds=time.perf_counter() - started, sifted=sifted,
    )  # fmt: skip


def _sifted(
    document: Document, questions: Sequence[Question], order: Sequence[int], told: Callable[[str, int, int], None],
    options: dict[str, Any],
) -> tuple[list[int], tuple[int, int]]:  # fmt: skip
    """Misses, each followed by a right answer while there are any, then the other right ones; how many were right, and
    how many asked. options: of asking."""
    right: list[int] = []
    wrong: list[int] = []
    for number, place in enumerate(order, 1):
        question = questions[place]
        given = document.ask(question.prompt, temperature=0.0, quote=False, with_sources=False, **options).text
        (right if is_right(given, question.answer) else wrong).append(place)
        told("sift", number, len(order))
    pairs = [place for pair in zip(wrong, right, strict=False) for place in pair]
    rest = [*wrong[len(right) :], *right[len(wrong) :]]
    return [*pairs, *rest], (len(right), len(questions))


def take_apart(
    llm: LLM, document: Document, question: Question, *, max_tokens: int = MAX_TOKENS, controls: Controls | None = None
) -> Anatomy:
    """One question of a document under every repair, and the look into its layers."""
    spans = evidence_spans(document.texts, question)
    asked, expected = document.question_ids(question.prompt), _expected(llm, document, question, controls)
    tried: dict[str, Tried] = {}
    departs, looks = None, []
    for name, repair in REPAIRS.items():
        watch = Watch(spans=spans, repair=repair, noting=name == "none")
        with watched(llm, watch):
            likeliest, logprob = _forced(llm, document, asked, expected, controls)
            watch.noting = False
            most = max_tokens if name == "none" else min(max_tokens, len(expected) + _BEYOND)
            given = question.answer if name != "none" and likeliest == expected else document.ask(
                question.prompt, temperature=0.0, max_tokens=most, quote=False, with_sources=False, controls=controls
            ).text  # fmt: skip
        if name == "none":
            looks = watch.looks
            departs = next((n for n, (a, b) in enumerate(zip(likeliest, expected, strict=True)) if a != b), None)
        right, part = is_right(given, question.answer), part_right(given, question.answer)
        tried[name] = Tried(given=given, right=right, part=part, logprob=logprob)
    decides = len(asked) - 1 + (departs or 0)
    reached = _reached(looks, decides)
    wrong = not tried["none"].right
    return Anatomy(
        prompt=question.prompt, expected=question.answer, depth=question.depth, marks=question.marks,
        statements=len(spans), departs=departs, reached=reached, layers=tuple(_row(look, decides) for look in looks),
        tried=tried, sort=sorted_by_attention(*reached) if wrong else None,
        repaired_by=next((name for name in REPAIRS if name != "none" and tried[name].right), "nothing")
        if wrong else None,
    )  # fmt: skip


def spread(count: int) -> list[int]:
    """0 .. count - 1 in an order whose every beginning lies evenly over them (by the bits of the number, reversed)."""
    bits = max(1, (count - 1).bit_length())
    turned = (int(f"{number:0{bits}b}"[::-1], 2) for number in range(1 << bits))
    return [number for number in turned if number < count]


def evidence_spans(texts: Texts, question: Question) -> list[tuple[int, int]]:
    """Document tokens of each statement that the answer hangs on."""
    entry = texts.entries[0]
    starts = texts.starts(entry)
    spans = []
    for start, stop in question.evidence or (question.source,):
        first = int(np.searchsorted(starts, start, side="right")) - 1
        last = int(np.searchsorted(starts, stop, side="left"))
        spans.append((entry.first_token + first, entry.first_token + max(last, first + 1)))
    return spans


def sorted_by_attention(picked: float, strongest: float) -> str:
    """Which of `SORTS` a miss is, from what reached its worst statement."""
    return SORTS[0] if picked < PICKED else SORTS[1] if strongest < ATTENDED else SORTS[2]


def sorted_by_repair(repaired_by: str) -> str:
    """Which of `SORTS` a miss is, from the first repair that makes it right."""
    return _REPAIR_SORTS.get(repaired_by, SORTS[2])


def _expected(llm: LLM, document: Document, question: Question, controls: Controls | None) -> list[int]:
    """The expected answer's tokens and the end, written as the model likes it better: with a space before it or not."""
    asked, end = document.question_ids(question.prompt), llm.config.eos_token_id
    written = [[*llm.tokenizer.encode(f"{space}{question.answer}"), end] for space in ("", " ")]
    return max(written, key=lambda ids: len(ids) * _forced(llm, document, asked, ids, controls)[1])


@torch.inference_mode()
def _forced(
    llm: LLM, document: Document, asked: Sequence[int], expected: Sequence[int], controls: Controls | None
) -> tuple[list[int], float]:
    """The likeliest token in place of each expected one, and the mean log-probability of these."""
    ids = np.array([*asked, *expected[:-1]])
    with closing(document.fork()) as state:
        rows = llm.runner.step(ids, state, controls=controls, all_rows=True).logits[len(asked) - 1 :]
    rows = rows.double().log_softmax(-1)
    wanted = torch.tensor(expected, device=rows.device)
    return rows.argmax(-1).tolist(), float(rows.gather(1, wanted.unsqueeze(1)).mean())


def _reached(looks: Sequence[LayerLook], decides: int) -> tuple[float, float]:
    """Best share of picked entries and most probability of one head over CSA layers and rows, of the statement that has
    least of each."""
    chosen = [look for look in looks if look.picked is not None]
    if not chosen:
        return 0.0, 0.0
    picked = torch.stack([look.picked[: decides + 1].amax(0) for look in chosen if look.picked is not None]).amax(0)
    strongest = torch.stack([look.spans[: decides + 1].amax((0, 1)) for look in chosen]).amax(0)
    return float(picked.min()), float(strongest.min())


def _row(look: LayerLook, row: int) -> LayerRow:
    spans = look.spans[row].sum(-1) if look.spans.shape[-1] else look.sink[row] * 0
    return LayerRow(
        layer=look.layer, ratio=look.ratio, entries=look.entries,
        picked=None if look.picked is None else float(look.picked[row].min()),
        rank=None if look.rank is None else int(look.rank[row].max()), evidence=float(spans.mean()),
        strongest=float(spans.max()), others=float(look.others[row].mean()), window=float(look.window[row].mean()),
        sink=float(look.sink[row].mean()), entropy=float(look.entropy[row].mean()),
    )  # fmt: skip


def run_cells(
    llm: LLM, cells: Iterator[tuple[str, Cell]], *, progress: Callable[[str, str, int, int], None] | None = None,
    **options: Any,
) -> Iterator[AnatomyCell]:  # fmt: skip
    """`run_anatomy` of cells given with the name of their text; progress gets the cell's title first."""
    for text, cell in cells:
        title = f"{cell.kind} {cell.length}"
        watch = None if progress is None else (lambda *state, title=title: progress(title, *state))
        yield run_anatomy(llm, cell, text=text, progress=watch, **options)
