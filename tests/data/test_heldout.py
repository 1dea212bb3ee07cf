"""Word windows of held-out texts, duplicates, and reading held-out sets by path."""

import gzip
import json
import lzma
import zipfile

import numpy as np
import pytest

from octavo.config.errors import UsageError
from octavo.data.heldout import ParagraphFilter, WordHasher, held_out_texts, window_hashes

SECRET = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen"


def test_a_paragraph_with_thirteen_common_words_is_dropped_and_one_with_twelve_is_kept():
    keep = ParagraphFilter.from_texts([SECRET])
    thirteen = "Before: " + " ".join(SECRET.split()[1:14]) + ", after."
    twelve = "Before: " + " ".join(SECRET.split()[1:13]) + ", after."
    assert keep.clean(f"First.\n\n{thirteen}\n\n{twelve}\n\nLast.") == f"First.\n\n{twelve}\n\nLast."
    assert keep.counts.held_out == len(thirteen.encode())


def test_case_marks_and_paragraph_breaks_do_not_hide_a_held_out_passage():
    keep = ParagraphFilter.from_texts([SECRET])
    half, rest = SECRET.upper().split(" SEVEN ")
    disguised = f"{half},\n\n“SEVEN” {rest.replace(' ', '; ')}"
    assert keep.clean(f"Kept before.\n\n{disguised}\n\nKept after.") == "Kept before.\n\nKept after."


def test_touching_a_held_out_text_and_knowing_a_word():
    keep = ParagraphFilter.from_texts([SECRET])
    assert keep.touches(f"let x = 1; // {SECRET.replace(' ', '-')}")
    assert not keep.touches(" ".join(SECRET.split()[:12]))
    assert "seven" in keep.hasher
    assert "Seven" not in keep.hasher
    assert "absent" not in keep.hasher
    assert len(keep.hasher.words("absent words")) == 2
    assert "absent" in keep.hasher


def test_order_of_words_matters():
    words = WordHasher().words(SECRET)
    assert len(window_hashes(words)) == 2
    assert set(window_hashes(words).tolist()).isdisjoint(window_hashes(words[::-1]).tolist())
    assert window_hashes(words[:12]).dtype == np.uint64
    assert len(window_hashes(words[:12])) == 0


def test_a_long_paragraph_is_kept_once_over_all_documents_and_short_ones_always():
    keep = ParagraphFilter()
    long = "a sentence that is long enough to be counted as a paragraph of its own " * 2
    assert keep.clean(f"Short.\n\n{long}") == f"Short.\n\n{long}"
    assert keep.clean(f"Short.\n\n{long.upper()}\n\nNew.") == "Short.\n\nNew."
    assert keep.counts.duplicate == len(long)


def test_held_out_sets_are_read_in_every_form(tmp_path):
    row = {"question": "who?", "turns": [{"text": "said"}], "rank": 3}
    line = json.dumps(row) + "\n"
    (tmp_path / "a.txt").write_text("plain")
    with gzip.open(tmp_path / "b.jsonl.gz", "wt") as file:
        file.write(line)
    with lzma.open(tmp_path / "c.jsonl.xz", "wt") as file:
        file.write(line)
    (tmp_path / "d.json").write_text(json.dumps([row]))
    with zipfile.ZipFile(tmp_path / "e.whl", "w") as wheel:
        wheel.writestr("x/inner.json", json.dumps({"text": "wheel"}))
        wheel.writestr("x/code.py", "ignored")
    assert list(held_out_texts(tmp_path)) == ["plain", "who?", "said", "who?", "said", "who?", "said", "wheel"]


def test_a_missing_set_is_an_error_that_names_it(tmp_path):
    with pytest.raises(UsageError, match="nowhere"):
        list(held_out_texts(tmp_path / "nowhere"))
