"""Relations written one by one: who owes whom, what stands where, each said and asked in several ways. For training.

Covers: reading `train_relations.txt`. Does not cover: relations of the tests (octavo.data.tasks.relations), drawing of
entities and values.

A line is `entity sort || value sort || statements || questions`; wordings are parted by `;;`.
"""

from __future__ import annotations

from octavo.data.tasks.authored.lines import lines
from octavo.data.tasks.phrasing import Phrasing
from octavo.data.tasks.relations import Relation
from octavo.data.tasks.wordings import Wordings


def _read(number: int, line: str) -> Relation:
    entity, sort, said, asked = (part.strip() for part in line.split("||"))
    tables = [Wordings((), (), authored=Phrasing(*(one.strip() for one in part.split(";;")))) for part in (said, asked)]
    return Relation(f"authored {number}", entity, sort, *tables)


AUTHORED: tuple[Relation, ...] = tuple(_read(number, line) for number, line in enumerate(lines("train_relations"), 1))
