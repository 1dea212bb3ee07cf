"""JavaScript lessons: what is taught passes the task's tests when it runs, what it tells of a call is its result."""

from __future__ import annotations

from random import Random

import pytest

from octavo.data.lessons import material
from octavo.data.lessons.material import Program
from octavo.data.lessons.programs import Programs, asked_program, program_lesson
from octavo.data.programs.write import composed
from octavo.data.tasks.javascript.judge import passed, program
from octavo.data.tasks.javascript.task import Task
from octavo.evals.javascript import code_of
from octavo.sandbox import Sandbox
from octavo.text.special import Special
from tests.support.lesson_pack import lesson_pack, said, taught, verified
from tests.support.small_text import SmallText


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> SmallText:
    return lesson_pack(tmp_path_factory.mktemp("pack"))


def of(task: Task) -> Program:
    return Program(**{name: getattr(task, name) for name in Program.__dataclass_fields__})


@pytest.mark.parametrize("task", verified(), ids=lambda task: task.id)
def test_what_is_taught_passes_when_it_runs(task: Task) -> None:
    draw = Random(0)
    with Sandbox() as sandbox:
        for _ in range(6):
            lesson = program_lesson(of(task), draw)
            answer = taught(lesson)[0]
            if task.kind == "predict":
                call = next(call for call, _ in task.tests if call in said(lesson))
                assert (call, answer) in task.tests
                continue
            whole = code_of(answer) if Special.USER in said(lesson) else task.prompt + answer
            assert passed(sandbox.run(program(whole, [call for call, _ in task.tests])), task.tests)


def test_composed_tasks_of_every_kind_pass_when_they_run() -> None:
    draw, bare = Random(3), 0
    with Sandbox() as sandbox:
        for task in composed(24):
            lesson = program_lesson(of(task), draw)
            alone = Special.USER not in said(lesson)
            bare += alone
            whole = task.prompt + taught(lesson)[0] if alone else code_of(taught(lesson)[0])
            if task.kind == "repair":
                assert not alone
            assert passed(sandbox.run(program(whole, [call for call, _ in task.tests])), task.tests)
    assert 3 < bare < 16


def test_functions_are_called_by_name_and_arguments() -> None:
    task = next(task for task in composed(40) if task.kind == "write" and task.signature.startswith("const"))
    told = {asked_program(of(task), Random(seed)) for seed in range(40)}
    name, arguments = task.signature.removeprefix("const ").removesuffix(" =>").split(" = ")
    assert any(f"`{name}{arguments}`" in text for text in told)
    assert not any(f"`const {name}" in text for text in told)


def test_broken_functions_are_shown_and_never_taught() -> None:
    task = next(task for task in verified() if task.kind == "repair")
    draw = Random(1)
    for _ in range(10):
        lesson = program_lesson(of(task), draw)
        assert task.broken.strip() in said(lesson)
        assert task.broken.strip() not in "".join(taught(lesson))


def test_functions_are_asked_for_in_many_ways(world: SmallText) -> None:
    draw, maker = Random(2), Programs(material.programs(world.pack_folder))
    lessons = [maker.lesson(draw) for _ in range(300)]
    bare = sum(Special.USER not in said(lesson) for lesson in lessons)
    assert 10 < bare < 60  # three in ten of the third that are to be written
    assert len({said(lesson) for lesson in lessons}) > 25
    assert {lesson.kind for lesson in lessons} == {"program"}
