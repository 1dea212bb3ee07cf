"""What protocols read of a server: names it answers to, limits with and without settings."""

from __future__ import annotations

from typing import Any

import pytest

from octavo.server.context import DEFAULT_MAX_TOKENS, MAX_N, Context
from octavo.server.errors import UnknownModelError
from octavo.server.settings import ServerSettings
from octavo.server.stream import KEEP_ALIVE_SECONDS

NONE: Any = None


def context(settings: Any = None) -> Context:
    return Context(bridge=NONE, turns=NONE, service=NONE, model="octavo-xs", aliases=("small",), settings=settings)


def test_names() -> None:
    context().check_model("octavo-xs")
    context().check_model("small")
    with pytest.raises(UnknownModelError, match="model 'gpt' is not served here; this server has 'octavo-xs'"):
        context().check_model("gpt")


def test_limits() -> None:
    bare, told = context(), context(ServerSettings(max_n=3, request_seconds=9.0))
    assert (bare.max_n, bare.seconds, bare.default_max_tokens, bare.keep_alive_seconds) == (
        MAX_N, None, DEFAULT_MAX_TOKENS, KEEP_ALIVE_SECONDS,
    )  # fmt: skip
    assert (told.max_n, told.seconds) == (3, 9.0)
