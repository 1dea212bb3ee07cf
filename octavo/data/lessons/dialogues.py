"""Dialogues, small talk and word problems as lessons.

Covers: messages, system prompts, word problems with and without a think block. Does not cover: where the exchanges come
from (`material`).
"""

from __future__ import annotations

from random import Random

from octavo.data.lessons import material
from octavo.data.lessons.lesson import Lesson, conversation
from octavo.data.lessons.material import WordProblem
from octavo.data.prose import TextSource

_KINDS = {"gsm8k": 0.5, "taskmaster": 0.3, "chatterbot": 0.2}
_SYSTEM = {
    "taskmaster": (
        "You take orders at the counter of a coffee shop.", "You are the voice of a coffee bar. Take the order.",
        "Help guests to order a drink, and let them check what is on the screen.",
    ),
    "chatterbot": ("You are a friendly partner for small talk.", "Answer in a sentence or two.", "Talk with the user."),
    "gsm8k": (
        "Solve the problem step by step.", "You are good at arithmetic. Show the way to the result.",
        "Work out the answer, and say it at the end.",
    ),
}  # fmt: skip
_SYSTEM_SHARE = 0.5
_THOUGHT = 0.3  # share of word problems that are worked out in the think block


class Dialogues:
    """Lessons of exchanges that the corpus holds."""

    def __init__(self, source: TextSource) -> None:
        """Raises ConfigError for a pack without one of the three sources."""
        self._problems = material.word_problems(source)
        self._talks = {name: material.dialogues(source, name) for name in ("taskmaster", "chatterbot")}

    def lesson(self, draw: Random) -> Lesson:
        """One exchange, each kind by its share."""
        kind = draw.choices(list(_KINDS), list(_KINDS.values()))[0]
        if kind == "gsm8k":
            return self._problem(draw.choice(self._problems), draw)
        turns = draw.choice(self._talks[kind])
        return conversation("dialogue", _with_system(kind, draw, [{"role": r, "content": text} for r, text in turns]))

    def _problem(self, problem: WordProblem, draw: Random) -> Lesson:
        ends = f"The answer is {problem.result}."
        thinking = draw.random() < _THOUGHT
        answer = {"role": "assistant", "content": ends if thinking else f"{problem.work}\n{ends}"}
        if thinking:
            answer["reasoning_content"] = problem.work
        messages = [{"role": "user", "content": problem.question}, answer]
        return conversation("dialogue", _with_system("gsm8k", draw, messages), thinking=thinking)


def _with_system(kind: str, draw: Random, messages: list[dict[str, str]]) -> list[dict[str, str]]:
    """Half of the conversations get a system prompt."""
    if draw.random() >= _SYSTEM_SHARE:
        return messages
    return [{"role": "system", "content": draw.choice(_SYSTEM[kind])}, *messages]
