"""What every table of wordings must hold to."""

from __future__ import annotations

import re
from random import Random

from octavo.data.tasks.wordings import Wordings, bare

DRAWS = 3000


def check_table(table: Wordings, fields: str) -> None:
    """Each training wording has each field once; there are many; none that is drawn is a test wording."""
    assert table.more is not None
    assert table.more.count() > 1000
    draw = Random(0)
    for wording in [*(table.pick(draw) for _ in range(DRAWS)), *table.train]:
        assert sorted(re.findall(r"\{(\w)\}", wording)) == sorted(fields), wording
        assert not re.search(r"<\w+>|[\[\]|]", wording), wording
        assert bare(wording) not in {bare(test) for test in table.test}
