"""What every table of wordings must hold to."""

from __future__ import annotations

import re

from octavo.data.tasks.wordings import Wordings


def bare(text: str) -> str:
    """Letters and fields alone, in small letters."""
    return re.sub(r"[^a-z{}]+", " ", text.lower()).strip()


def check_table(table: Wordings, fields: str) -> None:
    """Each training wording has each field once; there are many; none is a test wording."""
    assert table.more is not None
    made = [*table.more.all(), *table.train]
    for wording in made:
        assert sorted(re.findall(r"\{(\w)\}", wording)) == sorted(fields), wording
    known = {bare(wording) for wording in made}
    assert len(known) > 60
    assert not known & {bare(wording) for wording in table.test}
