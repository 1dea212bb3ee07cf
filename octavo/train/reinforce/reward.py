"""What an answer is worth: 1 where a program finds it right, else 0.

Covers: JavaScript run against its tests in the sandbox, answers that must equal one, partial credit, counts of how
programs ended. Does not cover: the sandbox's limits (`octavo.sandbox`). Whatever an answer makes the sandbox do, the
judge goes on: a program that does not end, or eats memory, is worth nothing.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from octavo.config.errors import LimitError, UsageError
from octavo.data.tasks.javascript.judge import Test, passed, program, same
from octavo.evals.javascript import code_of
from octavo.evals.scoring import is_right
from octavo.sandbox import Limits, Outcome, Sandbox, Status
from octavo.train.reinforce.prompts import Prompt

LIMITS = Limits(seconds=1.0, memory_bytes=64 << 20, output_chars=4096, result_chars=16_384)
"""Of one answer: references take milliseconds."""


class Scored(NamedTuple):
    """A reward from 0 to 1, and how the answer ended: right, wrong, or a status of the sandbox."""

    reward: float
    outcome: str


class Judge(Protocol):
    """Scores answers."""

    def score(self, prompt: Prompt, answer: str) -> Scored: ...


class Verifier:
    """Judges by running, and by comparing; `counts` of all outcomes."""

    def __init__(self, sandbox: Sandbox, *, partial: bool = False) -> None:
        """`partial`: a program that runs is worth the share of tests that it passes, in place of all or nothing."""
        self._sandbox, self._partial = sandbox, partial
        self.counts: Counter[str] = Counter()

    def score(self, prompt: Prompt, answer: str) -> Scored:
        """The worth of an answer's text."""
        if prompt.tests:
            scored = self._run(prompt.tests, code_of(answer))
        else:
            right = is_right(answer, prompt.expected)
            scored = Scored(float(right), "right" if right else "wrong")
        self.counts[f"{prompt.kind} {scored.outcome}"] += 1
        return scored

    def _run(self, tests: Sequence[Test], source: str) -> Scored:
        outcome = self._outcome(program(source, [call for call, _ in tests]))
        if passed(outcome, tests):
            return Scored(1.0, "right")
        if outcome.status is not Status.OK:
            return Scored(0.0, str(outcome.status))
        return Scored(_share(outcome, tests) if self._partial else 0.0, "wrong")

    def _outcome(self, source: str) -> Outcome:
        """What came of a program; text that the sandbox takes for none is a program with an error."""
        try:
            return self._sandbox.run(source)
        except (UsageError, LimitError) as error:
            return Outcome(status=Status.ERROR, error=str(error))


def _share(outcome: Outcome, tests: Sequence[Test]) -> float:
    """How many of the tests give what they should, of all."""
    try:
        results = outcome.value
    except ValueError:
        return 0.0
    if not isinstance(results, list) or len(results) != len(tests):
        return 0.0
    right = [same(given, json.loads(expected)) for given, (_, expected) in zip(results, tests, strict=True)]
    return sum(right) / len(tests)
