"""What is asked: prompts of a step and of the look at the end, each a pure function of seed and number.

Covers: JavaScript by instruction, facts planted in a passage, questions of rows of recall, which seeds train and which
are for looking. Does not cover: judging answers (`reward`). Families of JavaScript and wordings that are kept for tests
are never drawn: seeds of JavaScript lie below those of tests, the other kinds have trained wordings only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Protocol

import numpy as np

from octavo.config.errors import ConfigError
from octavo.data.ground import Encode
from octavo.data.lessons.lesson import Lesson, conversation, prompt_ids
from octavo.data.lessons.material import Program
from octavo.data.lessons.passages import Passages, about_document
from octavo.data.lessons.programs import asked_program, fenced
from octavo.data.loader import encoder
from octavo.data.pack import PackedText
from octavo.data.prose import TextSource
from octavo.data.rows import make_row
from octavo.data.shares import Mix
from octavo.data.tasks.javascript.judge import Test
from octavo.data.tasks.javascript.task import TRAIN_SEEDS, build
from octavo.sandbox import Sandbox
from octavo.text.special import Special

FIRST_SEED = 100_000_000
"""From here on seeds of JavaScript train by reinforcement; those below are for lessons."""
DEV_SEEDS = 900_000_000
"""From here on they are for the look before and after; nothing trains on them, and they are no test seeds."""
_TRIES = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """ids: what the model reads. Right is an answer that passes `tests`, or, without any, that equals `expected`."""

    kind: str
    id: str
    ids: tuple[int, ...]
    tests: tuple[Test, ...] = ()
    expected: str = ""


class Prompts(Protocol):
    """Where prompts come from."""

    def step(self, step: int, count: int) -> list[Prompt]:
        """The `count` prompts of a training step, the same at every call."""
        ...

    def dev(self, count: int) -> list[Prompt]:
        """`count` prompts that no step has, the same at every call."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Shares of the kinds of prompt, and the rows that questions of kind `row` come from: their length, the mix of what
    they ask, and the longest answer in tokens."""

    program: float = 0.0
    recall: float = 0.0
    row: float = 0.0
    row_length: int = 1024
    row_answer: int = 40
    mix: Mix = field(default_factory=Mix)

    def __post_init__(self) -> None:
        if min(self.shares.values()) < 0 or sum(self.shares.values()) <= 0:
            raise ConfigError(f"shares of prompts are {self.shares}; none may be below 0, and one must be above")

    @property
    def shares(self) -> dict[str, float]:
        """Share of each kind."""
        return {"program": self.program, "recall": self.recall, "row": self.row}


class MixedPrompts:
    """Prompts of three kinds over the prose of a pack."""

    def __init__(self, pack: Path, tokenizer_file: Path, asked: Asked, *, seed: int, sandbox: Sandbox) -> None:
        """`sandbox` runs the references of JavaScript. Raises ConfigError for a pack of another tokenizer."""
        self._asked, self._seed, self._sandbox = asked, seed, sandbox
        self._source = TextSource.open(PackedText(pack), tokenizer_file)
        self._encode: Encode = encoder(tokenizer_file)
        self._passages = Passages(self._source)
        self._makers = {"program": self._program, "recall": self._recall, "row": self._row}

    def step(self, step: int, count: int) -> list[Prompt]:
        """See `Prompts`."""
        room = (DEV_SEEDS - FIRST_SEED) // max(count, 1)
        if step >= room:
            raise ConfigError(f"step {step} of {count} prompts is beyond the {room} steps that have seeds")
        kinds, weights = list(self._asked.shares), list(self._asked.shares.values())
        made = []
        for i in range(count):
            draw = Random(f"step/{self._seed}/{step}/{i}")
            made.append(self._makers[draw.choices(kinds, weights)[0]](draw, FIRST_SEED + step * count + i))
        return made

    def dev(self, count: int) -> list[Prompt]:
        """Kinds that train in turn."""
        kinds = [kind for kind, share in self._asked.shares.items() if share > 0]
        return [
            self._makers[kinds[i % len(kinds)]](Random(f"dev/{kinds[i % len(kinds)]}/{i}"), DEV_SEEDS + i)
            for i in range(count)
        ]

    def _program(self, draw: Random, seed: int) -> Prompt:
        """A function to write."""
        assert 0 <= seed < TRAIN_SEEDS, f"seed {seed} does not train"
        task = build(seed, self._sandbox)
        assert not task.held_out, f"{task.id} is of a family kept for tests"
        program = Program(**{name: getattr(task, name) for name in Program.__dataclass_fields__})
        question = {"role": "user", "content": asked_program(program, draw)}
        answer = {"role": "assistant", "content": fenced(task.source)}
        lesson = conversation("program", [question, answer])
        return Prompt(kind="program", id=task.id, ids=self._ids(lesson), tests=task.tests)

    def _recall(self, draw: Random, seed: int) -> Prompt:
        """A fact that stands in the passage read before."""
        made = self._passages.passage(draw, "fact")
        return Prompt(kind="recall", id=f"recall/{seed}", ids=self._ids(about_document(made)), expected=made.answer)

    def _row(self, draw: Random, seed: int) -> Prompt:
        """A question of a row of recall, with all that stands before it. Raises RuntimeError where no row has one."""
        end = self._source.vocabulary.special[Special.EOS]
        for _ in range(_TRIES):
            rng = np.random.default_rng(draw.getrandbits(62))
            row = make_row(rng, self._source, self._encode, self._asked.row_length, self._asked.mix)
            found = []
            for (_, start, _, _), kind in zip(row.span.tolist(), row.kinds, strict=True):
                ends = np.flatnonzero(row.tokens[start : start + self._asked.row_answer] == end)
                if len(ends):
                    found.append((kind, start, start + int(ends[0])))
            if found:
                kind, start, stop = draw.choice(found)
                expected = self._source.vocabulary.text(row.tokens[start:stop])
                ids = tuple(row.tokens[:start].tolist())
                return Prompt(kind="row", id=f"{kind}/{seed}", ids=ids, expected=expected)
        raise RuntimeError(f"no row of {_TRIES} has a question with an answer of {self._asked.row_answer} tokens")

    def _ids(self, lesson: Lesson) -> tuple[int, ...]:
        return tuple(prompt_ids(lesson, self._encode, self._source.vocabulary.special))


def by_kind(prompts: Sequence[Prompt], values: Sequence[float]) -> dict[str, list[float]]:
    """Values of prompts, by kind."""
    made: dict[str, list[float]] = {}
    for prompt, value in zip(prompts, values, strict=True):
        made.setdefault(prompt.kind, []).append(value)
    return made
