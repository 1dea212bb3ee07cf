"""Planted facts."""

from random import Random

from octavo.data.tasks import wordings
from octavo.data.tasks.fact import FactBook, careless, split_at_answer


def word() -> str:
    return "harbour"


def test_statement_is_cut_at_word_borders() -> None:
    statement = split_at_answer("The {a} of {e} is {v}.", "marigold", a="password", e="the blue door")
    assert (statement.before, statement.answer, statement.after) == (
        "The password of the blue door is", " marigold", "."
    )  # fmt: skip
    first = split_at_answer("{v} is the {a} of {e}.", "marigold", a="password", e="Velmora")
    assert (first.before, first.answer) == ("", "Marigold")
    quoted = split_at_answer('It is "{v}".', "£20")
    assert (quoted.before, quoted.answer, quoted.after) == ('It is "', "20", '".')


def test_no_two_facts_answer_one_question() -> None:
    book = FactBook(Random(1), word, hard=0.8)
    facts = [book.fact() for _ in range(400)]
    keys = {(f.entity.text.lower(), f.relation if isinstance(f.relation, str) else f.relation.name) for f in facts}
    assert len(keys) == 400
    assert len({f.entity.text for f in facts}) < 380  # some say another thing of the same entity


def test_question_names_the_entity_and_statement_holds_the_answer() -> None:
    draw = Random(2)
    book = FactBook(draw, word)
    for _ in range(200):
        fact = book.fact()
        assert fact.entity.text.lower() in fact.question(draw).lower()
        assert fact.entity.text.lower() in fact.statement.text.lower()
        assert fact.statement.answer.strip() in fact.statement.text


def test_attribute_can_be_given() -> None:
    assert FactBook(Random(3), word).fact(relation="password").relation == "password"


def test_held_out_questions_are_never_those_of_training() -> None:
    draw = Random(4)
    book = FactBook(draw, word, held_out=True)
    facts = [book.fact() for _ in range(150)]
    starts = {w.split("{")[0] for w in wordings.FACT_QUESTIONS.test + wordings.WHO_QUESTIONS.test}
    plain = [f for f in facts if isinstance(f.relation, str)]
    asked = [f.question(draw, held_out=True) for f in plain]
    assert all(question.startswith(tuple(starts)) for question in asked)
    assert 0.3 < sum(f.unseen for f in facts) / len(facts) < 0.7
    assert not any(FactBook(Random(s), word).fact().unseen for s in range(50))


def test_careless_questions_are_rare() -> None:
    made = [careless("What is it?", Random(s)) for s in range(600)]
    assert set(made) == {"What is it?", "what is it"}
    assert 20 < made.count("what is it") < 90


def test_families_share_a_relation_and_all_but_one_part_of_the_key() -> None:
    book = FactBook(Random(5), word)
    for _ in range(60):
        family = book.family(6)
        assert 2 <= len(family) <= 6
        assert len({fact.relation if isinstance(fact.relation, str) else fact.relation.name for fact in family}) == 1
        first = family[0].entity.words
        for fact in family[1:]:
            assert sum(a != b for a, b in zip(first, fact.entity.words, strict=True)) == 1
        assert len({fact.entity.text for fact in family}) == len(family)


def test_a_pair_that_is_reserved_is_not_stated() -> None:
    book = FactBook(Random(6), word, hard=0.0)
    fact = book.fact()
    assert not book.is_free(fact.entity, fact.relation)
    assert book.is_free(fact.entity, "tally of nothing")
    book.reserve(fact.entity, "tally of nothing")
    assert not book.is_free(fact.entity, "tally of nothing")
    assert book.mentions(fact.entity.text.upper())
    assert not book.mentions("nobody at all")
