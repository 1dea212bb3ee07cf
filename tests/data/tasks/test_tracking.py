"""Variables and what they hold."""

import re
from random import Random

from octavo.data.tasks.tracking import Chain, Variables
from octavo.data.tasks.values import HELD_OUT_STARTS


def word() -> str:
    return "harbour"


def test_a_chain_hands_its_value_on() -> None:
    chain = Chain(("a", "b", "c"), "48213")
    assert chain.assignments == [("a", "48213"), ("b", "a"), ("c", "b")]
    assert (chain.holders, chain.trace) == (" a, b, c", " b, a, 48213")
    assert Chain(("a",), "5").trace == " 5"


def test_names_and_values_of_a_row_differ() -> None:
    variables = Variables(Random(1), word)
    made = [variables.chain(3) for _ in range(60)]
    signs = [sign.lower() for chain in made for sign in (*chain.names, chain.value)]
    assert len(set(signs)) == len(signs) == 240
    assert all(re.fullmatch(r"\w+", sign) for sign in signs)


def test_statements_and_questions_hold_their_signs() -> None:
    draw = Random(2)
    for code in (False, True):
        variables = Variables(draw, word, code=code)
        for _ in range(30):
            chain = variables.chain(2)
            for name, value in chain.assignments:
                text = variables.statement(name, value)
                assert re.search(rf"\b{name}\b", text)
                assert value in text
                assert not code or re.search(r"= ", text)
            assert chain.value in chain.question(draw).lower()
            assert chain.names[-1] in chain.trace_question(draw)


def test_words_are_quoted_in_code() -> None:
    variables = Variables(Random(3), word, code=True)
    chains = [variables.chain(1) for _ in range(60)]
    texts = {chain.value: variables.statement(chain.names[0], chain.value) for chain in chains}
    assert any(not value.isdigit() for value in texts)
    assert all((f'"{value}"' in text) != value.isdigit() for value, text in texts.items())


def test_values_of_tests_begin_as_none_of_training_does() -> None:
    for held_out in (False, True):
        variables = Variables(Random(4), word, held_out=held_out)
        values = [variables.chain(1).value for _ in range(80)]
        assert {value[:2] in HELD_OUT_STARTS for value in values if value.isdigit()} == {held_out}
