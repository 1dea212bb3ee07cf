"""Families about lists: their forms agree, their tests find a mutant."""

from octavo.data.tasks.javascript.lists import FAMILIES
from tests.support.javascript_families import check_families


def test_forms_agree_and_mutants_fail() -> None:
    check_families(FAMILIES)
