"""Wordings of linked kinds: both halves are there and apart."""

import re
from random import Random

import pytest

from octavo.data.tasks import linked_wordings
from octavo.data.tasks.authored.lines import lines
from octavo.data.tasks.wordings import Wordings, near

TABLES = {name: table for name, table in vars(linked_wordings).items() if isinstance(table, Wordings)}


@pytest.mark.parametrize("name", list(TABLES))
def test_structures_are_many_and_no_two_alike(name: str) -> None:
    templates = lines(f"train_{name.lower()}")
    assert len(templates) >= 90  # with twenty a model knew their questions in no other wording
    assert len(set(templates)) == len(templates)
    fields = {frozenset(re.findall(r"{\w}", template)) for template in templates}
    assert len(fields) == 1
    assert all(len(re.findall(r"{\w}", TABLES[name].pick(Random(seed)))) == len(*fields) for seed in range(200))


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
