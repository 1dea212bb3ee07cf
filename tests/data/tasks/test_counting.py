"""Things that are mentioned a few times."""

from random import Random

from octavo.data.tasks.counting import tallies
from octavo.data.tasks.fact import FactBook


def word() -> str:
    return "harbour"


def test_every_sentence_names_its_thing_once_and_no_other() -> None:
    draw = Random(1)
    for _ in range(20):
        made = tallies(draw, FactBook(draw, word), 3)
        for tally in made:
            assert 1 <= len(tally.sentences) <= 8
            assert all(sentence.lower().count(tally.thing.lower()) == 1 for sentence in tally.sentences)
            others = [one.thing.lower() for one in made if one is not tally]
            assert not any(other in sentence.lower() for other in others for sentence in tally.sentences)
            assert tally.thing.lower() in tally.question(draw).lower()


def test_all_counts_come() -> None:
    draw = Random(2)
    counts = {len(one.sentences) for _ in range(40) for one in tallies(draw, FactBook(draw, word), 2)}
    assert counts == set(range(1, 9))


def test_things_that_facts_speak_of_are_left_out() -> None:
    draw = Random(3)
    book = FactBook(draw, word)
    known = {book.fact().entity.text.lower() for _ in range(300)}
    assert book.mentions(next(iter(known)))
    assert not known & {one.thing.lower() for _ in range(60) for one in tallies(draw, book, 2)}
