"""Facts told by verbs."""

import pytest

from octavo.data.tasks.names import SORTS
from octavo.data.tasks.relations import RELATIONS, Relation


@pytest.mark.parametrize("relation", RELATIONS, ids=lambda relation: relation.name)
def test_wordings_are_whole_and_apart(relation: Relation) -> None:
    said, asked = relation.statements, relation.questions
    assert all("{e}" in w and w.count("{v}") == 1 for w in said.train + said.test)
    assert all("{e}" in w and "{v}" not in w for w in asked.train + asked.test)
    assert not set(said.train) & set(said.test)
    assert not set(asked.train) & set(asked.test)
    assert min(map(len, (said.train, said.test, asked.train, asked.test))) > 0
    assert relation.entity is None or relation.entity in SORTS


def test_names_are_different() -> None:
    assert len({relation.name for relation in RELATIONS}) == len(RELATIONS) >= 25
