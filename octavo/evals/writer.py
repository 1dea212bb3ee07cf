"""A loaded model that writes several answers to one prompt at a time.

Covers: completions and replies to a message; the prompt is read once, and the answers take their steps in one call
where the model can (`Runner.together`), each with the bits it has alone behind this reading. Does not cover: what is
asked and how answers are judged (`javascript_run`).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Any

import numpy as np

from octavo.engine.generation import Generation
from octavo.engine.llm import LLM
from octavo.engine.request import Request
from octavo.engine.runner import Runner
from octavo.text.chat import encode_chat
from octavo.text.parser import CompletionParser


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """One answer: its text, why it ended ("end", "stop", "length", "context"), and how many tokens it has."""

    text: str
    finish: str
    tokens: int


class OwnWriter:
    """Answers of a loaded model; the options of a request are the fields of `octavo.engine.request.Request`."""

    def __init__(self, model: LLM) -> None:
        self._model = model

    def complete(self, prompt: str, requests: Sequence[dict[str, Any]]) -> list[Written]:
        """`prompt` gone on with, once for each request."""
        tokenizer = self._model.tokenizer
        return self._write([tokenizer.special("BOS"), *tokenizer.encode(prompt)], requests)

    def reply(self, message: str, requests: Sequence[dict[str, Any]]) -> list[Written]:
        """`message` answered without reasoning, once for each request; the text is what a user would see."""
        made = self._write(encode_chat(self._model.tokenizer, [{"role": "user", "content": message}]), requests)
        return [Written(text=_content(one.text), finish=one.finish, tokens=one.tokens) for one in made]

    def _write(self, ids: Sequence[int], requests: Sequence[dict[str, Any]]) -> list[Written]:
        runner, tokenizer = self._model.runner, self._model.tokenizer
        asked = [Request(**options) for options in requests]
        runner.check_room(len(ids), 0, what="the prompt")
        with closing(self._model.new_state()) as state, ExitStack() as held:
            runner.read(np.array(ids[:-1], dtype=np.int64), state)
            made = []
            for request in asked:
                fork = held.enter_context(closing(state.fork()))
                made.append(Generation(runner, tokenizer, fork, ids[-1:], request))
            finish_together(runner, made)
            return [Written(text=one.text, finish=one.finish_reason, tokens=len(one.token_ids)) for one in made]


def finish_together(runner: Runner, answers: Sequence[Generation]) -> None:
    """Make all `answers` to their ends, a token of each at a time; those that can take their steps in one call."""
    open_ones = list(answers)
    try:
        while open_ones:
            steps = {at: step for at, one in enumerate(open_ones) if (step := one.beside()) is not None}
            rows = runner.together([step[0] for step in steps.values()], [step[1] for step in steps.values()])
            row_of = dict(zip(steps, rows, strict=True))
            for at, one in enumerate(open_ones):
                one.advance(row_of.get(at))
            open_ones = [one for one in open_ones if one.finish is None]
    finally:
        for one in answers:
            one.close()


def _content(text: str) -> str:
    parser = CompletionParser(thinking=False)
    parser.feed(text)
    parser.close()
    return parser.completion.content
