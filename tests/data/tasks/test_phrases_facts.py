"""Grammars of facts, definitions and lists: every wording has its fields once and none is kept for tests."""

from __future__ import annotations

import pytest

from octavo.data.tasks import wordings
from tests.support.phrases import check_table

FIELDS = {
    "FACT_STATEMENTS": "eav", "FACT_QUESTIONS": "ea", "WHO_QUESTIONS": "ea", "DEFINITION_STATEMENTS": "wv",
    "DEFINITION_QUESTIONS": "w", "KEY_QUESTIONS": "k",
}  # fmt: skip


@pytest.mark.parametrize("name", FIELDS)
def test_fields_and_halves(name: str) -> None:
    check_table(getattr(wordings, name), FIELDS[name])
