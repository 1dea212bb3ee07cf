"""Chains of two statements."""

from random import Random

from octavo.data.tasks.fact import FactBook
from octavo.data.tasks.hops import chains


def word() -> str:
    return "harbour"


def test_a_chain_leads_from_its_entity_over_another_to_the_end() -> None:
    draw = Random(1)
    book = FactBook(draw, word)
    for _ in range(20):
        group = chains(draw, book, 3)
        assert len({(chain.first.relation, chain.second.relation) for chain in group}) == 1
        for chain in group:
            assert chain.first.statement.answer.strip().lower() == chain.second.entity.text.lower()
            assert chain.answer == " " + chain.second.statement.answer.strip()
            assert chain.steps == f" {chain.first.statement.answer.strip()},{chain.answer}"


def test_questions_name_the_beginning_and_both_attributes_and_not_the_step_between() -> None:
    draw = Random(2)
    book = FactBook(draw, word)
    for _ in range(30):
        (chain,) = chains(draw, book, 1)
        for held_out in (False, True):
            for text in (chain.question(draw, held_out=held_out), chain.step_question(draw, held_out=held_out)):
                assert chain.first.entity.text.lower() in text.lower()
                assert str(chain.first.relation).lower() in text.lower()
                assert str(chain.second.relation).lower() in text.lower()
                assert chain.second.entity.text not in text or chain.second.entity.text in chain.first.entity.text


def test_no_pair_of_a_chain_is_said_twice() -> None:
    draw = Random(3)
    book = FactBook(draw, word, hard=0.9)
    pairs = []
    for _ in range(20):
        for chain in chains(draw, book, 4):
            pairs += [(made.entity.text.lower(), made.relation) for made in (chain.first, chain.second)]
    assert len(set(pairs)) == len(pairs) == 160
