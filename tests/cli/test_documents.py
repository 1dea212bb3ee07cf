"""Which files a verb may work on."""

from __future__ import annotations

from pathlib import Path

import pytest

from octavo.cache.document.header import MAGIC
from octavo.cli.documents import check_files, is_document, tokens_kept
from octavo.config.errors import UsageError
from tests.support.documents import write_document


@pytest.mark.parametrize("files", [["a.octavo"], ["a.txt"], ["a.txt", "-", "b.txt"], []])
def test_good_lists_pass(files: list[str]) -> None:
    check_files(files)


def test_document_among_others_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match="b.octavo is a folded document"):
        check_files(["a.txt", "b.octavo"])


def test_tokens_kept_are_those_in_the_file(tmp_path: Path) -> None:
    write_document(tmp_path / "some.octavo", 5000, planned=9000)
    assert tokens_kept(str(tmp_path / "some.octavo")) == 5000
    write_document(tmp_path / "none.octavo", 100, planned=9000, finish=False)
    assert tokens_kept(str(tmp_path / "none.octavo")) == 0
    assert tokens_kept(str(tmp_path / "nowhere.octavo")) == 0


def test_document_is_known_by_ending_or_beginning(tmp_path: Path) -> None:
    named, text = tmp_path / "folded", tmp_path / "text"
    named.write_bytes(MAGIC + b"more")
    text.write_bytes(b"OCTAVO is a word")
    assert is_document("nowhere.octavo")
    assert is_document(str(named))
    assert not any(map(is_document, [str(text), str(tmp_path), str(tmp_path / "nowhere"), "-"]))
