"""Questions on order."""

from random import Random

import pytest

from octavo.data.tasks.ordering import order_question

THINGS = ["the red box", "Anna Bell", "the mill of Velgo"]


@pytest.mark.parametrize("held_out", [False, True])
@pytest.mark.parametrize("first", [False, True])
def test_all_things_are_named_in_an_order_that_is_drawn(first: bool, held_out: bool) -> None:
    texts = [order_question(THINGS, Random(seed), first=first, held_out=held_out).lower() for seed in range(60)]
    assert all(thing.lower() in text for thing in THINGS for text in texts)
    assert {min(range(3), key=lambda i: text.index(THINGS[i].lower())) for text in texts} == {0, 1, 2}
    assert all(" or " in text for text in texts)


def test_passages_are_quoted() -> None:
    assert '"Call me Ishmael"' in order_question(["Call me Ishmael", "It was"], Random(1), first=True, quoted=True)


def test_first_and_last_are_asked_in_different_words() -> None:
    first, last = ({order_question(THINGS[:1] * 2, Random(s), first=f, held_out=True) for s in range(40)}
                   for f in (True, False))  # fmt: skip
    assert len(first) == len(last) == 5
    assert not first & last
