"""Texts of a document: what is refused, and offsets that lead back to the characters."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavo.config.errors import TextError, UsageError
from octavo.engine.texts import Text, Texts, gather_texts, load_text, whole_characters
from octavo.text.tokenizer import Tokenizer
from tests.support.tiny_tokenizer import tiny_tokenizer


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return Tokenizer.load(tiny_tokenizer(tmp_path_factory.mktemp("tokenizer")))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "bad.txt: the file is empty"),
        (b"text\x00more", "bad.txt: byte 4 is NUL"),
        (b"caf\xe9 au lait", "bad.txt: not UTF-8 text: byte 3 is 0xe9"),
    ],
)
def test_bad_file_is_named_with_the_byte(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "bad.txt"
    path.write_bytes(data)
    with pytest.raises(TextError, match=message):
        load_text(path)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(TextError, match=r"nothing\.txt: no such file"):
        load_text(tmp_path / "nothing.txt")
    with pytest.raises(TextError, match="is a folder"):
        load_text(tmp_path)


def test_characters_stay_as_they_are_stored(tmp_path: Path) -> None:
    path = tmp_path / "dos.txt"
    path.write_bytes("\ufeffone\r\ntwo".encode())
    assert load_text(path).text == "\ufeffone\r\ntwo"


def test_dash_is_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"piped")))
    assert load_text(Path("-")) == Text(name="-", text="piped")


def test_string_is_text_and_path_is_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("from a file")
    assert gather_texts([path, "given"]) == [
        Text(name=str(path), text="from a file"),
        Text(name="text 2", text="given"),
    ]
    assert gather_texts("given")[0].name == "text"


def test_name_of_a_file_is_not_read_as_a_text(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("from a file")
    with pytest.raises(UsageError, match=r"give pathlib\.Path"):
        gather_texts(str(path))


@pytest.mark.parametrize("sources", [[], 3, [b"bytes"], None])
def test_what_is_no_text_is_refused(sources: object) -> None:
    with pytest.raises(UsageError, match="read: "):
        gather_texts(sources)  # type: ignore[arg-type]


def test_empty_string_and_lone_surrogate_are_refused() -> None:
    with pytest.raises(TextError, match="text: the text is empty"):
        gather_texts("")
    with pytest.raises(TextError, match=r"text 2: character 1 is the lone surrogate"):
        gather_texts(["fine", "a\ud800"])
    with pytest.raises(TextError, match=r"the name 'a\\udcff\.txt': character 1 is the lone surrogate"):
        gather_texts(Text(name="a\udcff.txt", text="fine"))


def test_order_of_a_document(tokenizer: Tokenizer) -> None:
    texts = Texts.encode([Text(name="a", text="One."), Text(name="b", text="Two.")], tokenizer)
    a, b = texts.entries
    assert texts.ids[0] == tokenizer.special("BOS")
    assert tokenizer.decode(texts.ids[1:].tolist()) == "One.\n\nTwo."
    assert (a.first_token, b.stop_token) == (1, len(texts.ids))
    assert (texts.text(a), texts.text(b)) == ("One.", "Two.")
    assert texts.entry_at(0) is None
    assert texts.entry_at(a.stop_token) is None
    assert texts.entry_at(b.first_token) is b


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60))
def test_offsets_equal_the_tokenizers_own(tokenizer: Tokenizer, text: str) -> None:
    texts = Texts.encode([Text(name="a", text="x"), Text(name="b", text=text)], tokenizer)
    entry = texts.entries[1]
    ids, starts = tokenizer.encode_with_offsets(text)
    assert texts.ids[entry.first_token : entry.stop_token].tolist() == ids
    assert texts.starts(entry).tolist() == [*starts, len(text)]


@given(st.text("aé雪😀\n\ufeff", min_size=1, max_size=30))
def test_beginning_of_a_text_is_kept_to_a_whole_character(tokenizer: Tokenizer, text: str) -> None:
    ids = np.array(tokenizer.encode(text), dtype=np.int32)
    for count in range(len(ids) + 1):
        kept = whole_characters(ids[:count], tokenizer)
        assert text.startswith(tokenizer.decode(ids[:kept].tolist()))
        for more in range(kept + 1, count + 1):
            assert not text.startswith(tokenizer.decode(ids[:more].tolist()))


def test_passage_is_widened_to_whole_characters(tokenizer: Tokenizer) -> None:
    text = "a→𝔘b"  # the tiny vocabulary has no entry for either: three and four tokens
    texts = Texts.encode([Text(name="a", text=text)], tokenizer)
    (entry,) = texts.entries
    for first in range(entry.first_token, entry.stop_token):
        for stop in range(first + 1, entry.stop_token + 1):
            passage, base = texts.passage(entry, first, stop)
            assert passage == text[base : base + len(passage)]
            assert texts.starts(entry)[first - entry.first_token] >= base
    assert texts.passage(entry, -5, 99) == (text, 0)


def test_control_tokens_spelled_in_a_text_stay_text(tokenizer: Tokenizer) -> None:
    text = "before <｜User｜> after"
    texts = Texts.encode([Text(name="a", text=text)], tokenizer)
    assert tokenizer.special("USER") not in texts.ids
    assert texts.text(texts.entries[0]) == text


def test_tokenizer_that_changes_texts_is_refused(tmp_path: Path) -> None:
    path = tiny_tokenizer(tmp_path / "tokenizer.json")
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(content | {"normalizer": {"type": "Lowercase"}}), encoding="utf-8")
    tokenizer = Tokenizer.load(path)
    assert Texts.encode([Text(name="a", text="quiet")], tokenizer).entries[0].chars == 5
    with pytest.raises(TextError, match="a: the tokenizer does not give this text back"):
        Texts.encode([Text(name="a", text="Loud")], tokenizer)
