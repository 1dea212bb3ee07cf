"""Every kind has names and draws JSON at every size."""

import json
from random import Random

import pytest

from octavo.data.tasks.javascript.arguments import KINDS, NAMES, arguments


@pytest.mark.parametrize("kind", KINDS)
def test_values_are_json_and_follow_the_seed(kind: str) -> None:
    assert len(NAMES[kind]) >= 3
    for size in range(8):
        (value,) = arguments((kind,), Random(size), size)
        assert json.loads(json.dumps(value)) == value
        assert arguments((kind,), Random(size), size) == [value]


def test_small_cases_are_empty_where_a_kind_allows_it() -> None:
    assert arguments(("ints", "words", "records", "brackets"), Random(0), 0) == [[], [], [], ""]
