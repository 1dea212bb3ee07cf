"""Questions of the closed-book test: who founded a made-up town, asked with and without the answer in the prompt.

Covers: the towns that `octavo-s` was trained on (`towns_octavo_s.tsv`), question files of other corpora, choosing as
many of each number of exposures, alternatives of the same kind. Does not cover: asking a model (`facts_run`), how
facts were shown in training (octavo.data.facts).

Facts that training also asked for are left out, so that exposures are statements. Alternatives are answers about other
subjects of the same relation that were shown as often, so that a model that knows how often but not what is at chance.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from octavo.config.errors import UsageError
from octavo.data.facts import Fact, fact_questions
from octavo.data.heldout import read_rows

TOWNS = Path(__file__).with_name("towns_octavo_s.tsv")
RELATIONS = ("river", "founder", "trade")
GROUPS = ("invented", "never", "real")
WORDINGS = ("held_out", "seen")
CHOICES = 16
"""Answers to choose among, the right one included; a relation may have fewer that differ."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FactQuestion:
    """One fact asked in one wording. choices: the right answer first, then the alternatives. passage: eight statements
    of which one answers, for the open book."""

    id: str
    group: str
    exposures: int
    wording: str
    prompt: str
    passage: str
    choices: tuple[str, ...]

    @property
    def answer(self) -> str:
        """The right answer."""
        return self.choices[0]


def towns(path: Path = TOWNS) -> list[Fact]:
    """The facts of a table of towns: name, statements a pass (0: never shown), three answers, which of them training
    asked for."""
    with path.open(encoding="utf-8", newline="") as file:
        return [
            Fact(subject=row["town"], relation=relation, answer=row[relation], exposures=int(row["exposures"]),
                 group="invented" if int(row["exposures"]) else "never", asked=relation in row["asked"].split(","))
            for row in csv.DictReader(file, delimiter="\t") for relation in RELATIONS
        ]  # fmt: skip


def rows(name: str | None) -> list[dict[str, Any]]:
    """Question rows of a file as the corpus has them, by default those about the towns of `octavo-s`.

    Raises UsageError naming what cannot be read.
    """
    if name is None:
        return list(fact_questions(towns()))
    path = Path(name)
    if not path.is_file():
        raise UsageError(f"questions {name!r} is no file")
    needed = {"id", "prompt", "answer", "relation", "group", "exposures", "asked", "wording", "open_book"}
    try:
        found = list(read_rows(path))
        lacking = [(number, sorted(needed - set(row))) for number, row in enumerate(found, 1)]
    except (ValueError, EOFError, TypeError) as error:
        raise UsageError(f"questions {name!r} is not JSON lines of objects: {error}") from None
    for number, fields in lacking:
        if fields:
            raise UsageError(f"questions {name!r}: row {number} has no {', '.join(fields)}")
    return found


def choose(
    found: Iterable[Mapping[str, Any]], count: int, *, groups: Sequence[str] = ("invented", "never"),
    wordings: Sequence[str] = WORDINGS, seed: int = 0,
) -> list[FactQuestion]:  # fmt: skip
    """`count` questions for each group, number of exposures and wording, or all that there are; the same facts in every
    wording, relations in turn.

    Raises UsageError for a group that there is not, a count below 1, and for no questions.
    """
    for group in groups:
        if group not in GROUPS:
            raise UsageError(f"unknown kind {group!r} of facts: it is one of {', '.join(GROUPS)}")
    if count < 1:
        raise UsageError(f"count is {count}; it must be at least 1")
    cells: dict[tuple[str, int, str], dict[str, list[Mapping[str, Any]]]] = {}
    for row in found:
        if row["group"] in groups and row["wording"] in wordings:
            cell = cells.setdefault((row["group"], row["exposures"], row["wording"]), {})
            cell.setdefault(row["relation"], []).append(row)
    chosen = []
    for (group, exposures, wording), relations in sorted(cells.items(), key=lambda cell: _order(groups, cell[0])):
        draw = Random(f"{seed}/{group}/{exposures}")
        answers = {name: sorted({row["answer"] for row in said}) for name, said in relations.items()}
        unasked = {name: [row for row in said if not row["asked"]] for name, said in sorted(relations.items())}
        for row in _in_turn(unasked, count, draw):
            others = [answer for answer in answers[row["relation"]] if answer != row["answer"]]
            others = draw.sample(others, min(CHOICES - 1, len(others)))
            chosen.append(FactQuestion(
                id=row["id"], group=group, exposures=exposures, wording=wording, prompt=row["prompt"],
                passage=row["open_book"], choices=(row["answer"], *others),
            ))  # fmt: skip
    if not chosen:
        raise UsageError(f"there are no questions of the kinds {', '.join(groups)}")
    return chosen


def _order(groups: Sequence[str], cell: tuple[str, int, str]) -> tuple[int, int, int]:
    group, exposures, wording = cell
    return list(groups).index(group), exposures, WORDINGS.index(wording)


def _in_turn(relations: Mapping[str, list[Mapping[str, Any]]], count: int, draw: Random) -> list[Mapping[str, Any]]:
    """Up to `count` rows drawn from all relations, one of each after the other."""
    drawn = [draw.sample(said, len(said)) for said in relations.values()]
    longest = max((len(said) for said in drawn), default=0)
    return [said[number] for number in range(longest) for said in drawn if number < len(said)][:count]
