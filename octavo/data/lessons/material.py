"""What lessons are made of, read from a pack: exchanges, asked facts, passages of prose, verified JavaScript.

Covers: documents of a source as text, exchanges of word problems and dialogues, facts that the corpus itself asks, the
file of JavaScript tasks. Does not cover: lessons. Facts are recovered from the questions that stand in the pack, so
those that are asked in tests only, and towns that are never shown, cannot come up.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from octavo.config.errors import ConfigError
from octavo.data.facts_wordings import WORDINGS, fill
from octavo.data.heldout import read_rows

if TYPE_CHECKING:
    from octavo.data.prose import TextSource

TASKS_FILE = "javascript.jsonl.xz"
"""Beside `pack.json`: tasks as `python -m octavo.data javascript` writes them."""
_PROBLEM = re.compile(r"Question: (.+?)\nAnswer: (.+?)\nThe answer is (.+)\.", re.S)
_TURN = re.compile(r"(User|Assistant): (.*)")
_ASKED = re.compile(r"Question: (.+) Answer: (.+)")


@dataclass(frozen=True, slots=True)
class WordProblem:
    """A problem, the way to its result, the result."""

    question: str
    work: str
    result: str


@dataclass(frozen=True, slots=True)
class AskedFact:
    """A triple of `octavo.data.facts` that the corpus asks for, too."""

    subject: str
    relation: str
    answer: str


@dataclass(frozen=True, slots=True)
class Program:
    """A verified task; see `octavo.data.tasks.javascript.task.Task`."""

    kind: str
    instruction: str
    signature: str
    prompt: str
    answer: str
    source: str
    broken: str


def texts(source: TextSource, name: str) -> Iterator[str]:
    """Documents of one source of the pack. Raises ConfigError if the pack has none."""
    found = False
    for tokens in source.documents(name):
        found = True
        yield source.vocabulary.text(tokens)
    if not found:
        raise ConfigError(f"the pack has no source {name!r}, which lessons are made of")


def word_problems(source: TextSource) -> list[WordProblem]:
    """The word problems of `gsm8k`, in order."""
    found = (_PROBLEM.fullmatch(part) for text in texts(source, "gsm8k") for part in _exchanges(text, "Question: "))
    return [WordProblem(*match.groups()) for match in found if match is not None]


def dialogues(source: TextSource, name: str) -> list[tuple[tuple[str, str], ...]]:
    """Dialogues of `taskmaster` or `chatterbot`: (role, text) in turn, the user first, the assistant last."""
    made = []
    for text in texts(source, name):
        for part in text.split("\n\n"):
            turns: list[tuple[str, str]] = []
            for line in part.split("\n"):
                match = _TURN.fullmatch(line)
                if match is None or not match[2].strip():
                    break
                role, said = match[1].lower(), match[2].strip()
                if turns and turns[-1][0] == role:
                    turns[-1] = (role, f"{turns[-1][1]} {said}")
                else:
                    turns.append((role, said))
            else:
                while turns and turns[-1][0] != "assistant":
                    turns.pop()
                if turns[:1] and turns[0][0] == "assistant":
                    turns = turns[1:]
                if len(turns) > 1:
                    made.append(tuple(turns))
    return made


def asked_facts(source: TextSource) -> list[AskedFact]:
    """Facts that stand as a question in the pack, each once, in order."""
    found: dict[AskedFact, None] = {}
    for text in texts(source, "facts"):
        for line in text.split("\n"):
            match = _ASKED.fullmatch(line)
            fact = None if match is None else _fact(match[1], match[2])
            if fact is not None:
                found[fact] = None
    return list(found)


def programs(folder: Path) -> list[Program]:
    """The tasks of a pack's folder. Raises ConfigError where it has none, or one of a family kept for tests."""
    path = folder / TASKS_FILE
    if not path.is_file():
        raise ConfigError(f"{path} is missing: python -m octavo.data javascript --out {path} --count N makes it")
    made = []
    for number, row in enumerate(read_rows(path), 1):
        if row["held_out"]:
            raise ConfigError(f"{path}:{number} is of family {row['family']!r}, which is kept for tests")
        made.append(Program(**{name: row[name] for name in Program.__dataclass_fields__}))
    return made


def as_json(value: object) -> str:
    """JSON with characters as they are."""
    return json.dumps(value, ensure_ascii=False)


def _exchanges(text: str, begin: str) -> Iterator[str]:
    """Parts of a document that begin with `begin` behind a blank line."""
    yield from re.split(rf"\n\n(?={re.escape(begin)})", text)


@cache
def _questions() -> tuple[tuple[str, str, re.Pattern[str]], ...]:
    """(relation, wording, what finds its subject) of every trained question."""
    found = []
    for relation, wording in WORDINGS.items():
        for question in wording.trained_questions:
            left, right = (re.escape(part) for part in question.split("{s}"))
            loose = re.sub(r"\b([Aa])\\ $", r"\1n?\\ ", left)
            found.append((relation, question, re.compile(f"{loose}(.+?){right}")))
    return tuple(found)


def _fact(question: str, answer: str) -> AskedFact | None:
    """The triple of a question in a trained wording; None for one that fits no relation, or two."""
    found = set()
    for relation, wording, pattern in _questions():
        match = pattern.fullmatch(question)
        if match is not None and fill(wording, subject=match[1]) == question:
            found.add(AskedFact(match[1], relation, answer))
    return found.pop() if len(found) == 1 else None
