"""Places are filled, and test wordings stay out of training."""

import re
from random import Random

from octavo.data.tasks.javascript.family import Family, fill

FAMILY = Family(
    name="double", args=("ints", "ints"), names=("twice", "double"), wordings=("Take @a.", "Test @b @what."),
    forms={"loop": "\n  for (const x of @a) if (@cond) @r.push(x * @k + @q);"}, condition="number", ints={"k": (2, 4)},
    choices=({"q": "@b.length"},),
)  # fmt: skip


def test_every_place_is_filled_and_names_differ() -> None:
    for seed in range(40):
        filled = fill(FAMILY, Random(seed), test=True)
        assert "@" not in filled.answer + filled.instruction + filled.signature
        first, second = re.findall(r"\w+", filled.signature)[2:]
        assert first != second
        assert f"{second}.length" in filled.answer
        assert filled.answer.startswith(f"{filled.signature} {{\n  for")
        assert filled.answer.endswith("\n}\n")


def test_the_last_wording_is_for_tests() -> None:
    training = {fill(FAMILY, Random(seed), test=False).instruction.split()[0] for seed in range(40)}
    tests = {fill(FAMILY, Random(seed), test=True).instruction.split()[0] for seed in range(40)}
    assert training == {"Take"}
    assert tests == {"Take", "Test"}
