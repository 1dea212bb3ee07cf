"""Word lists."""

import pytest

from octavo.data.tasks import lists

NAMES = [name for name in vars(lists) if name.isupper()]


@pytest.mark.parametrize("name", NAMES)
def test_entries_are_clean(name: str) -> None:
    entries = getattr(lists, name)
    assert entries
    assert all(entry and entry == entry.strip() and "  " not in entry for entry in entries)


def test_lists_are_wide_enough() -> None:
    assert min(len(lists.GIVEN), len(lists.THINGS), len(lists.NOUNS), len(lists.ANIMALS)) > 60
    assert len(lists.PLACES) > 90
