"""Drawn values: small cases first, of their kinds, records with all their fields."""

from __future__ import annotations

from random import Random

from octavo.data.programs import values


def test_sizes_begin_with_nothing() -> None:
    draw = Random(0)
    assert values.draw_numbers(draw, 0) == values.draw_words(draw, 0) == values.draw_lists(draw, 0) == []
    assert values.draw_counts(draw, 0) == {}
    assert values.draw_phrase(draw, 0) in values.WORDS
    assert len(values.draw_numbers(draw, 5)) == len(values.draw_small(draw, 5)) == 5


def test_kinds() -> None:
    draw = Random(1)
    assert all(len(row) == len(table[0]) for table in (values.draw_matrix(draw, 4) for _ in range(9)) for row in table)
    assert set(values.draw_letters(draw, 9)) <= set("abce")
    assert isinstance(values.draw_text(draw, 4), str)
    for _, _, fields in values.SCHEMAS:
        (row,) = values.draw_records(fields, draw, 1)
        assert {name: isinstance(row[name], str) for name in fields} == {
            name: kind in values.TEXT_FIELDS for name, kind in fields.items()
        }
