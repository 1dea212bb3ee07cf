"""All styles of a program give what Python gives, and look different."""

from __future__ import annotations

from random import Random

from octavo.data.programs.chain import chain
from octavo.data.programs.script import STYLES, body
from tests.support.composed import check_chains


def test_every_style_gives_what_python_gives() -> None:
    assert check_chains(chain(Random(seed)) for seed in range(250)) > 2500


def test_styles_differ_and_do_not_depend_on_each_other() -> None:
    made = chain(next(Random(seed) for seed in range(99) if len(chain(Random(seed)).stages) > 1))
    first = {style: body(made, style) for style in STYLES}
    assert "for (" in first["loop"]
    assert "for (" not in first["array"]
    assert first["steps"].count("const") > first["array"].count("const")


def test_lines_are_indented_by_two() -> None:
    for seed in range(40):
        assert all(line.startswith("  ") for line in body(chain(Random(seed)), "loop").splitlines())
