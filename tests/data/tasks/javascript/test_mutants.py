"""Mutants differ from the answer in one place, never in the signature."""

from random import Random

from octavo.data.tasks.javascript.mutants import mutants

LOOPS = "  while (n > 0) n--;\n  for (let i = 0; i < n; i += 4) sum += i;\n"
ANSWER = f"function f(n) {{\n  let sum = 0;\n{LOOPS}  return sum;\n}}\n"


def test_one_place_changes_below_the_signature() -> None:
    made = mutants(ANSWER, Random(0), 50)
    assert len(set(made)) == len(made) == 3
    assert ANSWER not in made
    for wrong in made:
        assert wrong.splitlines()[0] == "function f(n) {"
        changed = [a for a, b in zip(ANSWER.splitlines(), wrong.splitlines(), strict=True) if a != b]
        assert len(changed) == 1
        assert "while" not in changed[0]
    assert any("i <= n" in wrong for wrong in made)
    assert any("sum = 1" in wrong for wrong in made)
    assert not any("i = 4" in wrong for wrong in made)


def test_count_and_seed() -> None:
    assert mutants(ANSWER, Random(3), 2) == mutants(ANSWER, Random(3), 9)[:2]


def test_a_function_without_operators_gets_one_that_adds() -> None:
    assert mutants("function f(n) {\n  while (n) n--;\n  return n;\n}\n", Random(0), 4) == [
        "function f(n) {\n  while (n) n--;\n  return n + 1;\n}\n"
    ]
