"""Which files a verb may work on."""

from __future__ import annotations

import pytest

from octavo.cli.documents import check_files
from octavo.config.errors import UsageError


@pytest.mark.parametrize("files", [["a.octavo"], ["a.txt"], ["a.txt", "-", "b.txt"], []])
def test_good_lists_pass(files: list[str]) -> None:
    check_files(files)


def test_document_among_others_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match="b.octavo is a folded document"):
        check_files(["a.txt", "b.octavo"])
