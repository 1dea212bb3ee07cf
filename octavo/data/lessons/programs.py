"""JavaScript by instruction: verified tasks as conversations, and as programs to go on with.

Covers: wordings, code blocks, the four kinds of task. Does not cover: making and running tasks
(octavo.data.tasks.javascript, octavo.data.programs), which families are kept for tests: the file of tasks holds none.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from octavo.data.lessons.lesson import Lesson, continuation, conversation
from octavo.data.lessons.material import Program

_BARE = {"write": 0.3, "finish": 0.6}  # share of functions that are gone on with, without a message, by kind
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
_FINISH = (
    "Finish this function. Answer with the whole function.\n\n{prompt}",
    "I began to write this. Please complete it.\n\n{prompt}",
    "Complete this code and show all of it.\n\n{prompt}",
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
    if task.kind in _BARE and draw.random() < _BARE[task.kind]:
        return continuation("program", task.prompt, task.answer)
    if task.kind == "predict":
        source, _, call = task.prompt.rpartition("\n// ")
        asked = draw.choice(_PREDICT).format(source=source + "\n", call=call.removesuffix(" => "))
        return _said(asked, task.answer.strip())
    wordings = {"write": WRITE, "finish": _FINISH, "repair": _REPAIR}[task.kind]
    return _said(asked_program(task, draw, wordings), fenced(task.source))


def asked_program(task: Program, draw: Random, wordings: Sequence[str] = WRITE) -> str:
    """The message that asks for a task's function."""
    return draw.choice(wordings).format(
        prompt=task.prompt.rstrip(), signature=_called(task.signature), instruction=task.instruction,
        broken=task.broken,
    ).strip()  # fmt: skip


def _called(signature: str) -> str:
    """Name and arguments: "f(a, b)", of "function f(a, b)" and of "const f = (a, b) =>"."""
    return signature.removeprefix("function ").removeprefix("const ").removesuffix(" =>").replace(" = (", "(")


def fenced(source: str) -> str:
    """A program as a block of code."""
    return f"```js\n{source.strip()}\n```"


def _said(asked: str, answer: str) -> Lesson:
    messages = [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]
    return conversation("program", messages)
