"""Limits of a request: each refused value is named with its limit."""

from __future__ import annotations

import math

import pytest

from octavo.config.errors import LimitError, UsageError
from octavo.engine.request import Request


@pytest.mark.parametrize(
    ("field", "value", "limit"),
    [
        ("max_tokens", 0, "integer from 1"),
        ("max_tokens", 2.5, "integer from 1"),
        ("max_tokens", True, "integer from 1"),
        ("temperature", -0.1, "finite number from 0"),
        ("temperature", math.nan, "finite number from 0"),
        ("temperature", math.inf, "finite number from 0"),
        ("temperature", "hot", "finite number from 0"),
        ("top_p", 0.0, "above 0 to 1"),
        ("top_p", 1.01, "above 0 to 1"),
        ("top_p", math.nan, "above 0 to 1"),
        ("min_p", -1e-9, "from 0 to 1"),
        ("min_p", math.inf, "from 0 to 1"),
        ("top_k", 0, "integer from 1"),
        ("top_k", -3, "integer from 1"),
        ("seed", -1, "integer from 0"),
        ("seed", 2**63, "integer from 0"),
        ("seed", 1.0, "integer from 0"),
        ("draft", -1, "integer from 0 to 7"),
        ("draft", 8, "integer from 0 to 7"),
        ("draft", True, "integer from 0 to 7"),
    ],
)
def test_value_out_of_range_is_named_with_its_limit(field: str, value: object, limit: str) -> None:
    with pytest.raises(LimitError, match=rf"^{field} is .*{limit}") as refused:
        Request(**{field: value})  # type: ignore[arg-type]
    assert "\n" not in str(refused.value)


def test_borders_are_allowed() -> None:
    request = Request(max_tokens=1, temperature=0, top_p=1, min_p=1, top_k=1, seed=2**63 - 1)
    assert request.seed == 2**63 - 1
    assert [Request(draft=draft).draft for draft in (None, 0, 7)] == [None, 0, 7]


@pytest.mark.parametrize(("stop", "kept"), [("end", ("end",)), (["a", "b"], ("a", "b")), ((), ())])
def test_stop_strings_become_a_tuple(stop: str | list[str], kept: tuple[str, ...]) -> None:
    assert Request(stop=stop).stop == kept


@pytest.mark.parametrize(("stop", "message"), [("", "is empty"), (["a", ""], r"stop\[1\] is empty"), (3, "stop is 3")])
def test_bad_stop_strings_are_refused(stop: object, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Request(stop=stop)  # type: ignore[arg-type]
