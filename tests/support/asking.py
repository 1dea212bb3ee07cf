"""What tests of the server's faults ask of it, and a service that remembers what it was asked.

Covers: bodies over the tiny model of `tiny_llm`, prompts of random ids, waiting. Does not cover: servers (`listening`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np

from octavo.engine.llm import LLM
from octavo.engine.serving.events import Event
from octavo.engine.serving.job import Job
from octavo.engine.serving.service import Service
from octavo.engine.serving.settings import ServiceSettings
from tests.support.listening import SECONDS

NAME = "octavo-tiny"
CHAT, COMPLETIONS, MESSAGES, RESPONSES = "/v1/chat/completions", "/v1/completions", "/v1/messages", "/v1/responses"


def wait_for(condition: Callable[[], Any]) -> None:
    """Return once `condition()` holds."""
    until = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < until, "it never came about"
        time.sleep(0.002)


def ids(seed: int, length: int) -> list[int]:
    """A prompt without control tokens."""
    return np.random.default_rng(seed).integers(16, 380, length).tolist()


def completion(client: httpx.Client, prompt: Any, **fields: Any) -> httpx.Response:
    """Eight likeliest tokens with their log-probabilities, unless `fields` say otherwise."""
    body = {"model": NAME, "prompt": prompt, "max_tokens": 8, "temperature": 0, "logprobs": 3} | fields
    return client.post(COMPLETIONS, json=body)


def chat(**fields: Any) -> dict[str, Any]:
    """The body of a short conversation."""
    return {"model": NAME, "messages": [{"role": "user", "content": "Who?"}], "max_tokens": 4} | fields


class Recorded(Service):
    """A service that remembers what was asked of it."""

    def __init__(self, llm: LLM, settings: ServiceSettings) -> None:
        super().__init__(llm, settings)
        self.jobs: list[Job] = []

    def submit(self, job: Job, tell: Callable[[Event], None]) -> None:
        """See `Service.submit`."""
        self.jobs.append(job)
        super().submit(job, tell)
