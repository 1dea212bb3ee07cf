"""Relations of verbs and frames."""

from random import Random

from octavo.data.tasks.fact import FactBook
from octavo.data.tasks.names import SORTS
from octavo.data.tasks.relations import RELATIONS
from octavo.data.tasks.verbs import VERBS


def test_every_verb_states_and_asks_with_its_fields() -> None:
    draw = Random(0)
    for relation in VERBS:
        assert relation.entity is None or relation.entity in SORTS
        for _ in range(40):
            said, asked = relation.statements.pick(draw), relation.questions.pick(draw)
            assert (said.count("{e}"), said.count("{v}")) == (1, 1), said
            assert (asked.count("{e}"), asked.count("{v}")) == (1, 0), asked
            assert not set(said + asked) & set("<>[]|"), (said, asked)


def test_there_are_many_and_cells_have_none() -> None:
    assert len(VERBS) > 200
    names = {relation.name for relation in VERBS}
    assert not names & {relation.name for relation in RELATIONS}
    book = FactBook(Random(2), lambda: "harbour", held_out=True)
    assert not names & {f.relation.name for f in (book.fact() for _ in range(300)) if not isinstance(f.relation, str)}
    book = FactBook(Random(2), lambda: "harbour")
    assert names & {f.relation.name for f in (book.fact() for _ in range(300)) if not isinstance(f.relation, str)}
