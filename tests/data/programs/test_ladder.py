"""One value and its cases: the first rule that holds decides, in both languages."""

from __future__ import annotations

from random import Random

from octavo.data.programs.chain import Chain
from octavo.data.programs.ladder import ladder, one_value
from octavo.data.programs.piece import Scope
from tests.support.composed import check_chains


def made(seed: int) -> Chain:
    scope = Scope(draw=Random(seed))
    source = one_value(scope)
    return Chain(source=source, stages=(), ending=ladder(scope, source.kind), scope=scope)


def test_both_languages_agree() -> None:
    assert check_chains(map(made, range(120))) > 1300


def test_code_decides_once_for_each_case() -> None:
    for seed in range(30):
        end = made(seed).ending
        assert [line[:3] for line in end.lines] == ["if "] * (len(end.lines) - 1) + ["ret"]
        assert end.js("n").count(" ? ") >= len(end.lines) - 1
        assert "otherwise" in end.verb
