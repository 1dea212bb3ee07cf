"""Several answers to one prompt: each is the one that it would be alone, whatever runs beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import octavo
from octavo.config.errors import LimitError
from octavo.evals.writer import OwnWriter
from tests.support.tiny_llm import tiny_llm

PROMPT = "// Returns the larger one of two numbers.\nfunction larger(a, b) {\n"


def test_answers_beside_each_other_are_those_alone(tmp_path: Path) -> None:
    model = octavo.load("octavo-xs")
    requests: list[dict[str, Any]] = [
        {"temperature": 0.0, "max_tokens": 24}, {"temperature": 0.8, "top_p": 0.95, "seed": 3, "max_tokens": 24},
        {"temperature": 0.0, "max_tokens": 40, "stop": "\n"}, {"temperature": 0.8, "seed": 4, "max_tokens": 5},
    ]  # fmt: skip
    writer = OwnWriter(model)
    beside = writer.complete(PROMPT, requests)
    assert beside == [writer.complete(PROMPT, [options])[0] for options in requests]
    assert [one.text for one in beside] == [model.generate(PROMPT, **options).text for options in requests]
    assert beside[2].finish == "stop"
    assert (beside[3].tokens, beside[3].finish) == (5, "length")
    said = writer.reply("Who are you?", requests[:2])
    asked: Any = [{"role": "user", "content": "Who are you?"}]
    assert [one.text for one in said] == [model.chat(asked, **options).text for options in requests[:2]]


def test_nothing_is_held_behind_answers(tmp_path: Path) -> None:
    model = tiny_llm(tmp_path)
    OwnWriter(model).complete("Some words.", [{"max_tokens": 3, "seed": n, "temperature": 1.0} for n in range(3)])
    assert not any(model.pool.allocator.held(page) for page in range(model.pool.allocator.total))
    with pytest.raises(LimitError, match="the prompt: "):
        OwnWriter(model).complete("word " * 5_000, [{"max_tokens": 3}])
    assert not any(model.pool.allocator.held(page) for page in range(model.pool.allocator.total))
