"""Relations written one by one."""

from __future__ import annotations

from random import Random

from octavo.data.tasks.authored.relations import AUTHORED
from octavo.data.tasks.fact import FactBook
from octavo.data.tasks.names import SORTS
from octavo.data.tasks.relations import RELATIONS
from octavo.data.tasks.values import value
from octavo.data.tasks.wordings import near


def test_every_relation_states_and_asks_with_its_fields() -> None:
    draw = Random(0)
    assert len(AUTHORED) > 200
    for relation in AUTHORED:
        assert relation.entity in SORTS
        assert value(draw, relation.value, lambda: "harbour")
        for _ in range(12):
            said, asked = relation.statements.pick(draw), relation.questions.pick(draw)
            assert (said.count("{e}"), said.count("{v}")) == (1, 1), said
            assert (asked.count("{e}"), asked.count("{v}")) == (1, 0), asked
            assert not set(said + asked) & set("<>[]|"), (said, asked)


def test_no_wording_is_near_one_of_the_tests() -> None:
    kept = tuple(w for relation in RELATIONS for table in (relation.statements, relation.questions) for w in table.test)
    draw = Random(1)
    for relation in AUTHORED:
        for _ in range(12):
            assert not near(relation.statements.pick(draw), kept)
            assert not near(relation.questions.pick(draw), kept)


def test_training_draws_them_and_cells_do_not() -> None:
    names = {relation.name for relation in AUTHORED}

    def told(book: FactBook) -> set[str]:
        return {f.relation.name for f in (book.fact() for _ in range(300)) if not isinstance(f.relation, str)}

    assert not names & told(FactBook(Random(2), lambda: "harbour", held_out=True))
    assert names & told(FactBook(Random(2), lambda: "harbour"))
