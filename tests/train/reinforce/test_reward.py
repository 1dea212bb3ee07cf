"""Rewards: right and wrong, programs that run away are worth nothing and the judge goes on, partial credit."""

from __future__ import annotations

import pytest

from octavo.sandbox import Limits, Sandbox
from octavo.train.reinforce.prompts import Prompt
from octavo.train.reinforce.reward import LIMITS, Verifier

DOUBLE = Prompt(kind="program", id="p", ids=(1,), tests=(("double(2)", "4"), ("double(5)", "10"), ("double(0)", "0")))
WHO = Prompt(kind="recall", id="r", ids=(1,), expected="Eda Voss")
RIGHT = "```js\nfunction double(x) {\n  return 2 * x;\n}\n```"
RUNAWAY = {
    "loop": ("while (true) {}", "timeout"),
    "allocation": (
        "const held = []; while (true) held.push(new Array(1e5).fill(1.5));",
        "memory timeout",
    ),  # of a busy machine
    "recursion": ("return double(x) + 1;", "error"),
    "regex": ('return /^(a+)+$/.test("a".repeat(40) + "b");', "timeout"),
    "output": ('while (true) console.log("x".repeat(1000));', "output"),
    "result": ('return "y".repeat(1 << 20);', "output"),
}


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox(Limits(seconds=0.5, memory_bytes=LIMITS.memory_bytes, output_chars=4096, result_chars=16384)) as made:
        yield made


def test_right_and_wrong_programs(sandbox: Sandbox) -> None:
    judge = Verifier(sandbox)
    assert judge.score(DOUBLE, RIGHT) == (1.0, "right")
    assert judge.score(DOUBLE, "Here:\n" + RIGHT + "\nDone.") == (1.0, "right")
    assert judge.score(DOUBLE, "function double(x) { return x * x; }") == (0.0, "wrong")
    assert judge.score(DOUBLE, "function double(x) { return") == (0.0, "error")
    assert judge.score(DOUBLE, "") == (0.0, "error")
    assert judge.score(DOUBLE, "function double(x) { return '\ud800'; }") == (0.0, "error")
    assert judge.counts == {"program right": 2, "program wrong": 1, "program error": 3}


@pytest.mark.parametrize("name", RUNAWAY)
def test_programs_that_run_away_are_worth_nothing_and_the_judge_goes_on(sandbox: Sandbox, name: str) -> None:
    body, outcome = RUNAWAY[name]
    judge = Verifier(sandbox, partial=True)
    scored = judge.score(DOUBLE, f"function double(x) {{ {body} }}")
    assert scored.reward == 0.0
    assert scored.outcome in outcome.split()
    assert judge.score(DOUBLE, RIGHT) == (1.0, "right")


@pytest.mark.parametrize(
    "trick",
    [
        "JSON.stringify = () => 'true';", "JSON.stringify = () => '{\"status\": \"ok\"}';",
        "Object.prototype.toJSON = () => true;", "Array.prototype.toJSON = () => [true, true, true];",
        "Object.prototype.valueOf = () => 4;", "Array.prototype.length = 0;",
    ],
)  # fmt: skip
def test_what_a_program_changes_around_itself_is_worth_nothing(sandbox: Sandbox, trick: str) -> None:
    source = f"{trick} function double(x) {{ {trick} return {{}}; }}"
    assert Verifier(sandbox).score(DOUBLE, source).reward == 0.0


def test_partial_credit_is_the_share_of_tests(sandbox: Sandbox) -> None:
    square = "function double(x) { return x * x; }"  # right for 2 and for 0
    assert Verifier(sandbox).score(DOUBLE, square).reward == 0.0
    assert Verifier(sandbox, partial=True).score(DOUBLE, square).reward == pytest.approx(2 / 3)
    assert Verifier(sandbox, partial=True).score(DOUBLE, RIGHT).reward == 1.0


def test_answers_that_must_equal_one(sandbox: Sandbox) -> None:
    judge = Verifier(sandbox)
    assert judge.score(WHO, " Eda Voss") == (1.0, "right")
    assert judge.score(WHO, "eda voss.") == (1.0, "right")
    assert judge.score(WHO, "Eda Voss or Ada Voss") == (0.0, "wrong")
    assert judge.score(WHO, "") == (0.0, "wrong")


def test_the_limits_of_an_answer() -> None:
    assert (LIMITS.seconds, LIMITS.memory_bytes) == (1.0, 64 << 20)
