"""Words: every argument is named, forms differ, a phrase is used only where its order is clear."""

from __future__ import annotations

from random import Random

from octavo.data.programs.chain import chain
from octavo.data.programs.wording import comment, function_name, given, instruction


def test_instructions_differ_and_are_one_line() -> None:
    made = chain(Random(8))
    told = {instruction(made, Random(seed)) for seed in range(60)}
    assert len(told) > 12
    for seed in range(300):
        text = instruction(chain(Random(seed)), Random(seed))
        assert "\n" not in text
        assert text[0].isupper() or text[0] in "1("
        assert "{}" not in text


def test_arguments_and_names() -> None:
    for seed in range(100):
        made = chain(Random(seed))
        assert all(f"`{one.name}`" in given(made) for one in made.scope.arguments)
        assert function_name(made, Random(seed)).isidentifier()


def test_comments_are_comments() -> None:
    shapes = set()
    for seed in range(80):
        text = comment("Add.", [("f(1)", "2"), ("f(2)", "3")], Random(seed))
        assert all(word in text for word in ("Add.", "f(1)", "2"))
        assert text.endswith("\n")
        shapes.add(text.split("Add.")[0])
        assert text.startswith("/*") or all(line.startswith("// ") for line in text.splitlines())
    assert len(shapes) == 4
