"""A list is copied before it is changed only where it has a name."""

from __future__ import annotations

import pytest

from octavo.data.programs.step import fresh_list


@pytest.mark.parametrize(
    ("js", "wanted"),
    [("list", "[...list]"), ("list.map((x) => -x)", "list.map((x) => -x)"), ("[...text]", "[...text]")],
)
def test_fresh_list(js: str, wanted: str) -> None:
    assert fresh_list(js) == wanted
