"""Which files a verb may work on."""

from __future__ import annotations

from pathlib import Path

import pytest

from octavo.cache.document.header import MAGIC
from octavo.cli.documents import check_files, is_document
from octavo.config.errors import UsageError


@pytest.mark.parametrize("files", [["a.octavo"], ["a.txt"], ["a.txt", "-", "b.txt"], []])
def test_good_lists_pass(files: list[str]) -> None:
    check_files(files)


def test_document_among_others_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match="b.octavo is a folded document"):
        check_files(["a.txt", "b.octavo"])


def test_document_is_known_by_ending_or_beginning(tmp_path: Path) -> None:
    named, text = tmp_path / "folded", tmp_path / "text"
    named.write_bytes(MAGIC + b"more")
    text.write_bytes(b"OCTAVO is a word")
    assert is_document("nowhere.octavo")
    assert is_document(str(named))
    assert not any(map(is_document, [str(text), str(tmp_path), str(tmp_path / "nowhere"), "-"]))
