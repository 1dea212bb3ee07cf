"""Composed tasks apart from what tests ask: families held out of training, and problems of others' making.

Covers: for a task's calls, whether a reference of a held-out family gives the same results, and how many of them; names
and prompts of problems in a file, by runs of 13 words (octavo.data.heldout). Does not cover: structures kept for tests
(`chain`). A family is asked only for arguments and results of its own kinds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np

from octavo.config.errors import SandboxError
from octavo.data.heldout import WordHasher, held_out_texts, read_rows, window_hashes
from octavo.data.tasks.javascript.arguments import arguments
from octavo.data.tasks.javascript.family import fill
from octavo.data.tasks.javascript.judge import program
from octavo.data.tasks.javascript.task import FAMILIES, Task
from octavo.sandbox import Sandbox, Status

_FILLS = 80  # draws of a family's constants: every one that differs is kept
_DEFINED = re.compile(r"(?:const|let|var|function)\s+(\w+)")

_COUNTED = """
const references = [{references}];
const right = (numbers, pairs) => numbers.map((number) => {{
  let count = 0;
  for (const [given, wanted] of pairs) {{
    try {{
      if (JSON.stringify(references[number](...given)) === wanted) count++;
    }} catch (error) {{}}
  }}
  return count;
}});
[{tasks}]
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A held-out family with its constants written out. given, gives: JSON kinds of its arguments and results."""

    family: str
    source: str
    name: str
    given: tuple[str, ...]
    gives: frozenset[str]


def references(sandbox: Sandbox) -> list[Reference]:
    """Every held-out family with every constant and choice that 80 draws meet. Raises SandboxError where one fails."""
    made: dict[str, Reference] = {}
    for family in (one for one in FAMILIES if one.held_out):
        draw = Random(f"references/{family.name}")
        given = [arguments(family.args, draw, size) for size in (1, 2, 3, 4, 5, 6)]
        kinds = tuple(_kind(value) for value in given[-1])
        for _ in range(_FILLS):
            filled = fill(family, draw, test=False)
            if filled.form != "array" and "array" in family.forms:
                continue
            key = re.sub(r"\b(?:" + "|".join((filled.name, *_names(filled.signature))) + r")\b", "_", filled.answer)
            if key in made:
                continue
            calls = [f"{filled.name}({', '.join(map(json.dumps, values))})" for values in given]
            outcome = sandbox.run(program(filled.answer, calls))
            if outcome.status is not Status.OK:
                raise SandboxError(f"the reference of {family.name} does not run: {outcome.error}")
            gives = frozenset(_kind(value) for value in outcome.value) | {"null"}
            gives |= {"array"} if any(kind.startswith("array") for kind in gives) else set()
            made[key] = Reference(family=family.name, source=filled.answer, name=filled.name, given=kinds, gives=gives)
    return list(made.values())


def _names(signature: str) -> list[str]:
    return [*re.findall(r"\w+", signature.partition("(")[2]), "result", "out", "answer", "i", "index", "at"]


def _kind(value: object) -> str:
    if value is None or isinstance(value, bool):
        return "null" if value is None else "boolean"
    if isinstance(value, list):
        return f"array of {_kind(value[0])}" if value else "array"
    return {int: "number", float: "number", str: "string", dict: "object"}[type(value)]


def nearest(tasks: Sequence[Task], found: Sequence[Reference], sandbox: Sandbox) -> list[tuple[str, float]]:
    """For each task the held-out family that gives most of its tests' results, and that share; ("", 0.0) where none has
    the kinds of its arguments and results. A share of 1 is a task of that family."""
    asked: list[tuple[int, Reference]] = []
    parts: list[str] = []
    for place, task in enumerate(tasks):
        values = [json.loads(f"[{call.partition('(')[2].rpartition(')')[0]}]") for call, _ in task.tests]
        wanted = [json.loads(result) for _, result in task.tests]
        given = tuple(max(map(_kind, some), key=len) for some in zip(*values, strict=True))
        gives = set(map(_kind, wanted))
        fit = [number for number, one in enumerate(found) if one.given == given and gives <= one.gives]
        if fit:
            asked += [(place, found[number]) for number in fit]
            pairs = [
                [each, json.dumps(result, separators=(",", ":"))] for each, result in zip(values, wanted, strict=True)
            ]
            parts.append(f"...right({fit}, {json.dumps(pairs)})")
    best = [("", 0.0)] * len(tasks)
    if not asked:
        return best
    defined = ",\n".join(f"(() => {{ {one.source} return {one.name}; }})()" for one in found)
    outcome = sandbox.run(_COUNTED.format(references=defined, tasks=",\n".join(parts)))
    if outcome.status is not Status.OK:
        raise SandboxError(f"held-out references from {tasks[0].id} did not run: {outcome.error}")
    for (place, one), count in zip(asked, outcome.value, strict=True):
        share = count / len(tasks[place].tests)
        if share > best[place][1]:
            best[place] = (one.family, share)
    return best


class Problems:
    """Problems that are held out, of files: their functions' names and runs of 13 words."""

    def __init__(self, files: Sequence[Path]) -> None:
        """Raises UsageError for a path that is not there."""
        self.names: set[str] = set()
        texts: list[str] = []
        for path in files:
            texts += held_out_texts(path)
            if ".jsonl" in path.suffixes:
                declared = [str(row.get("declaration") or row.get("prompt") or "") for row in read_rows(path)]
                self.names |= {name for text in declared for name in _DEFINED.findall(text)[-1:]}
        self._hasher = WordHasher()
        parts = [window_hashes(self._hasher.words(text)) for text in texts]
        self._windows = np.unique(np.concatenate(parts)) if parts else np.empty(0, dtype=np.uint64)

    def holds(self, task: Task) -> bool:
        """Whether the task's function is called like one of them, or its prompt or source shares 13 words with one."""
        if set(_DEFINED.findall(task.signature)) & self.names:
            return True
        texts = (task.prompt, task.source)
        found = np.concatenate([window_hashes(self._hasher.words(text)) for text in texts])
        if not len(found) or not len(self._windows):
            return False
        places = np.minimum(np.searchsorted(self._windows, found), len(self._windows) - 1)
        return bool((self._windows[places] == found).any())
