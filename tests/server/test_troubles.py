"""What users of other servers ran into: every row of the table in docs/serving.md names tests, and they exist.

Does not cover: what those tests show.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROWS = 20
_NAMED = re.compile(r"`([\w/]+\.py)::(test_\w+)`")


def rows() -> list[str]:
    page = (ROOT / "docs" / "serving.md").read_text("utf-8")
    part = page.partition("## What users of other servers ran into")[2].partition("\n## ")[0]
    return [line for line in part.splitlines() if re.match(r"\| \d+ ", line)]


def test_every_trouble_has_a_row_and_every_row_names_its_tests() -> None:
    found = rows()
    assert [int(line.split()[1]) for line in found] == list(range(1, ROWS + 1))
    for line in found:
        assert len(line.split(" | ")) == 3, line
        assert _NAMED.search(line.split(" | ")[2]), line


def test_the_tests_that_are_named_exist() -> None:
    for file, name in {named for line in rows() for named in _NAMED.findall(line)}:
        tree = ast.parse((ROOT / "tests" / file).read_text("utf-8"))
        there = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert name in there, f"{file} has no {name}"
