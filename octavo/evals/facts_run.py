"""Asking a model for facts with and without the book, and the report: exact answers, choices, by exposures.

Covers: prompts, the greedy answer, log-probabilities of the right answer and of its alternatives, shares with
intervals, JSON and the page. Does not cover: which questions (`facts`), changes of the memory (`engram`).

An answer is scored as the tokens " answer" and the end of the line behind the prompt, as training shows it. A choice
is right where the right answer is likelier than every alternative; a model that knows nothing has one chance in as many
as there are to choose from.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from octavo.cache.state import SequenceState
from octavo.engine.llm import LLM
from octavo.evals.engram import MEMORY, changed
from octavo.evals.facts import FactQuestion
from octavo.evals.report import share, write_texts
from octavo.evals.scoring import is_right

BOOKS = ("closed", "open")
MAX_TOKENS = 24
FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class FactOutcome:
    """What came of one question. right: the greedy line is the answer. chosen: which of the choices is likeliest, 0 is
    the right one. logprob: natural logarithm of the right answer's probability, best_other: of the likeliest
    alternative's."""

    id: str
    group: str
    exposures: int
    wording: str
    book: str
    control: str
    expected: str
    given: str
    right: bool
    chosen: int
    choices: int
    logprob: float
    best_other: float | None


def run_facts(
    llm: LLM, questions: Sequence[FactQuestion], *, controls: Sequence[str] = ("none",),
    books: Sequence[str] = BOOKS, progress: Callable[[str, str, int, int], None] | None = None,
) -> Iterator[FactOutcome]:  # fmt: skip
    """Outcomes by control, book and question. controls: of `octavo.evals.engram.MEMORY`; progress: called with
    (control and book, "ask", done, all)."""
    for control in controls:
        with changed(llm, control) as model:
            for book in books:
                for number, question in enumerate(questions, 1):
                    yield ask(model, question, book=book, control=control)
                    if progress is not None:
                        progress(f"{control}, {book} book", "ask", number, len(questions))


def ask(llm: LLM, question: FactQuestion, *, book: str, control: str = "none") -> FactOutcome:
    """Read the prompt once; write the greedy line and score every choice on forks of it."""
    prompt = f"{question.passage}\n{question.prompt}" if book == "open" else question.prompt
    scores = log_probabilities(llm, prompt, [f" {choice}\n" for choice in question.choices])
    given = llm.generate(prompt, temperature=0.0, max_tokens=MAX_TOKENS, stop="\n").text.strip()
    return FactOutcome(
        id=question.id, group=question.group, exposures=question.exposures, wording=question.wording, book=book,
        control=control, expected=question.answer, given=given, right=is_right(given, question.answer),
        chosen=int(np.argmax(scores)), choices=len(scores), logprob=scores[0], best_other=max(scores[1:], default=None),
    )  # fmt: skip


def log_probabilities(llm: LLM, prompt: str, endings: Sequence[str]) -> list[float]:
    """Natural logarithm of the probability that each ending follows the prompt, which is read once (after BOS)."""
    ids = np.array([llm.tokenizer.special("BOS"), *llm.tokenizer.encode(prompt)])
    with closing(llm.new_state()) as state:
        first = llm.runner.read_last(ids, state).logits[-1].double().log_softmax(-1).cpu().numpy()
        return [_score(llm, state, first, llm.tokenizer.encode(ending)) for ending in endings]


def _score(llm: LLM, state: SequenceState, first: np.ndarray, ids: Sequence[int]) -> float:
    """Log-probability of ids behind `state`, whose next token is told by `first` [V]."""
    if len(ids) == 1:
        return float(first[ids[0]])
    with closing(state.fork()) as fork:
        rows = llm.runner.step(np.array(ids[:-1]), fork, all_rows=True).logits.double().log_softmax(-1).cpu().numpy()
    return float(first[ids[0]] + rows[np.arange(len(ids) - 1), np.array(ids[1:])].sum())


def summary(outcomes: Sequence[FactOutcome]) -> list[dict[str, Any]]:
    """Shares by control, book, wording, group and exposures. chance: of a choice by one who knows nothing."""
    cells: dict[tuple[Any, ...], list[FactOutcome]] = {}
    for one in outcomes:
        cells.setdefault((one.control, one.book, one.wording, one.group, one.exposures), []).append(one)
    made = []
    for (control, book, wording, group, exposures), found in cells.items():
        choice = share(sum(one.chosen == 0 for one in found), len(found))
        chance = sum(1 / one.choices for one in found) / len(found)
        made.append({
            "control": control, "book": book, "wording": wording, "group": group, "exposures": exposures,
            "exact": share(sum(one.right for one in found), len(found)), "choice": choice, "chance": chance,
            "at_chance": choice["low"] <= chance <= choice["high"],
            "logprob": sum(one.logprob for one in found) / len(found),
        })  # fmt: skip
    return made


def to_json(outcomes: Sequence[FactOutcome], *, about: dict[str, Any] | None = None) -> str:
    """Shares, and every answer."""
    document = {
        "format": FORMAT, "about": about or {}, "shares": summary(outcomes),
        "outcomes": [asdict(one) for one in outcomes],
    }  # fmt: skip
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def _cell(found: dict[str, Any]) -> str:
    return f"{found['share']:.2f} ({found['low']:.2f}-{found['high']:.2f})"


def to_markdown(outcomes: Sequence[FactOutcome]) -> str:
    """A table of one line for each book, wording, group and number of exposures; for each control the exact answers and
    the right choices."""
    rows = summary(outcomes)
    controls = [name for name in MEMORY if any(row["control"] == name for row in rows)]
    titles = [f"{name}: {what} (95 %)" for name in ("as it is" if c == "none" else c for c in controls)
              for what in ("exact", "choice")]  # fmt: skip
    lines = ["| " + " | ".join(["book", "wording", "facts", "shown", "asked", "chance", *titles]) + " |"]
    lines.append("|" + "---|" * (6 + len(titles)))
    places: dict[tuple[Any, ...], dict[str, dict[str, Any]]] = {}
    for row in rows:
        place = tuple(row[name] for name in ("book", "wording", "group", "exposures"))
        places.setdefault(place, {})[row["control"]] = row
    for (book, wording, group, exposures), by_control in places.items():
        one = next(iter(by_control.values()))
        pairs = [(control, what) for control in controls for what in ("exact", "choice")]
        cells = [_cell(by_control[control][what]) if control in by_control else "-" for control, what in pairs]
        named = [book, wording.replace("_", " "), group, str(exposures), str(one["exact"]["asked"])]
        lines.append("| " + " | ".join([*named, f"{one['chance']:.3f}", *cells]) + " |")
    return "\n".join(lines) + "\n"


def write(outcomes: Sequence[FactOutcome], folder: Path, *, about: dict[str, Any] | None = None) -> None:
    """Write `facts.json` and `facts.md` into `folder`, each whole or not at all."""
    write_texts(folder, {"facts.json": to_json(outcomes, about=about), "facts.md": to_markdown(outcomes)})
