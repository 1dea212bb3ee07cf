"""JavaScript by instruction: verified tasks as conversations, and as programs to go on with.

Covers: wordings, code blocks, the three kinds of task. Does not cover: making and running tasks
(octavo.data.tasks.javascript), which families are kept for tests: the file of tasks holds none.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from octavo.data.lessons.lesson import Lesson, continuation, conversation
from octavo.data.lessons.material import Program

COMPLETED = 0.3  # share of functions to write that are gone on with, without a message
WRITE = (
    "Write this JavaScript function. Answer with the whole function.\n\n{prompt}\n}}",
    "Please finish this function:\n\n{prompt}\n}}",
    "Complete the function below.\n\n{prompt}\n}}",
    "Write a JavaScript function `{signature}`. {instruction}",
    "{instruction} Write it as `{signature}` in JavaScript.",
    "In JavaScript: {instruction} The function is `{signature}`.",
    "I need a function in JavaScript, `{signature}`. {instruction}",
    "Can you program `{signature}` for me? {instruction}",
)
_REPAIR = (
    "This function is wrong. {instruction}\n\n{broken}\nCorrect it.",
    "What it should do: {instruction}\nWhat I wrote:\n\n{broken}\nPlease repair it.",
    "Find the mistake and give the corrected function. {instruction}\n\n{broken}",
)
_PREDICT = (
    "What does `{call}` return?\n\n{source}",
    "{source}\nWhat is the result of `{call}`? Answer in JSON.",
    "Given this function, what is `{call}`?\n\n{source}",
)


class Programs:
    """Lessons of verified tasks."""

    def __init__(self, tasks: Sequence[Program]) -> None:
        self._tasks = tasks

    def lesson(self, draw: Random) -> Lesson:
        """One task."""
        return program_lesson(draw.choice(self._tasks), draw)


def program_lesson(task: Program, draw: Random) -> Lesson:
    """A task in one of its wordings."""
    if task.kind == "write" and draw.random() < COMPLETED:
        return continuation("program", task.prompt, task.answer)
    if task.kind == "predict":
        source, _, call = task.prompt.rpartition("\n// ")
        asked = draw.choice(_PREDICT).format(source=source + "\n", call=call.removesuffix(" => "))
        return _said(asked, task.answer.strip())
    return _said(asked_program(task, draw, WRITE if task.kind == "write" else _REPAIR), fenced(task.source))


def asked_program(task: Program, draw: Random, wordings: Sequence[str] = WRITE) -> str:
    """The message that asks for a task's function."""
    return draw.choice(wordings).format(
        prompt=task.prompt.rstrip(), signature=task.signature.removeprefix("function "), instruction=task.instruction,
        broken=task.broken,
    ).strip()  # fmt: skip


def fenced(source: str) -> str:
    """A program as a block of code."""
    return f"```js\n{source.strip()}\n```"


def _said(asked: str, answer: str) -> Lesson:
    messages = [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]
    return conversation("program", messages)
