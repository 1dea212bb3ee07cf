"""Wordings of linked kinds: both halves are there and apart."""

from random import Random

import pytest

from octavo.data.tasks import linked_wordings
from octavo.data.tasks.wordings import Wordings, near

TABLES = {name: table for name, table in vars(linked_wordings).items() if isinstance(table, Wordings)}


@pytest.mark.parametrize("name", list(TABLES))
def test_training_draws_nothing_near_a_test_wording(name: str) -> None:
    table = TABLES[name]
    drawn = {table.pick(Random(seed)) for seed in range(60)}
    assert len(drawn) > 30
    assert not any(near(wording, table.test) for wording in drawn)
    assert {table.pick(Random(seed), held_out=True) for seed in range(60)} == set(table.test)


def test_no_wording_of_tests_stands_in_two_tables() -> None:
    kept = [wording for table in TABLES.values() for wording in table.test]
    assert len(TABLES) == 11
    assert len(set(kept)) == len(kept)
