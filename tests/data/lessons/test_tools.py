"""Tool lessons: calls fit the definitions, results are right and said in the answer, nothing else is taught."""

from __future__ import annotations

import datetime
import json
import re
from random import Random

import pytest

from octavo.data.lessons import material
from octavo.data.lessons.tools import Tools
from octavo.sandbox import Sandbox
from octavo.text.parser import parse_completion
from octavo.text.special import Special
from tests.support.lesson_pack import lesson_pack, said, taught
from tests.support.small_text import SmallText


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> SmallText:
    return lesson_pack(tmp_path_factory.mktemp("pack"))


def schemas(text: str) -> dict[str, dict]:
    block = text.split("### Available Tool Schemas\n\n")[1].split("\n\nYou MUST strictly")[0]
    return {tool["name"]: tool["parameters"] for tool in map(json.loads, block.split("\n"))}


def parts(world: SmallText, count: int) -> list[tuple[str, list[str]]]:
    draw, maker = Random(0), Tools(world.source, material.programs(world.pack_folder), world.pack_folder)
    lessons = [maker.lesson(draw) for _ in range(count)]
    assert {lesson.kind for lesson in lessons} == {"tool"}
    return [(said(lesson), taught(lesson)) for lesson in lessons]


def test_calls_fit_their_definitions(world: SmallText) -> None:
    counts = []
    for text, turns in parts(world, 150):
        known = schemas(text)
        calls = parse_completion(turns[0], thinking=False).tool_calls
        counts.append(len(calls))
        for call in calls:
            arguments = json.loads(call.arguments)
            assert list(arguments) == known[call.name]["required"]
            kinds = {"string": str, "integer": int}
            for name, rule in known[call.name]["properties"].items():
                assert isinstance(arguments[name], kinds[rule["type"]])
        assert len(turns) == (2 if calls else 1)
    assert set(counts) == {0, 1, 2}


def test_results_are_right_and_said(world: SmallText) -> None:
    seen = set()
    with Sandbox() as sandbox:
        for text, turns in parts(world, 150):
            calls = parse_completion(turns[0], thinking=False).tool_calls
            results = re.findall(r"<tool_result>(.*?)</tool_result>", text, re.S)
            assert len(results) == len(calls)
            for call, result in zip(calls, results, strict=True):
                values = list(json.loads(call.arguments).values())
                if "code" in call.arguments or "function" in call.arguments:
                    assert sandbox.run(values[0]).value == json.loads(result)
                    seen.add("code")
                elif call.name in ("days_between", "count_days", "date_difference"):
                    first, last = map(datetime.date.fromisoformat, values)
                    assert (last - first).days == int(result)
                    seen.add("days")
                elif call.name in ("calculator", "calculate", "compute", "evaluate"):
                    assert re.fullmatch(r"[\d+*() -]+", values[0])
                    assert sandbox.run(values[0]).value == int(result)
                    seen.add("sum")
                else:
                    record = json.loads(result)
                    if "error" not in record:
                        assert values[0] in record.values()
                        assert str(record[values[1]]) in turns[-1]
                    else:
                        assert "is not there" in turns[-1]
                    seen.add("error" if "error" in record else "record")
                    continue
                assert result in turns[-1]
    assert seen == {"code", "days", "sum", "record", "error"}


def test_results_and_definitions_are_not_taught(world: SmallText) -> None:
    for text, turns in parts(world, 40):
        assert "tool_result" in text or len(turns) == 1
        assert all("tool_result" not in turn and "Available Tool Schemas" not in turn for turn in turns)
        assert text.endswith(turns[-1] + Special.EOS)
