"""Cutting long text: pieces join to the text, and splitting them apart equals splitting the whole."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, pre_tokenizers

from octavo.text.chunks import chunks

OFFICIAL_WORDS = (
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SPLITTERS = {
    "official": pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\p{N}{1,3}"), "isolated"),
            pre_tokenizers.Split(Regex("[一-龥぀-ゟ゠-ヿ]+"), "isolated"),
            pre_tokenizers.Split(Regex(OFFICIAL_WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    ),
    "gpt2": pre_tokenizers.ByteLevel(add_prefix_space=False),
    "prefix space": pre_tokenizers.ByteLevel(add_prefix_space=True),
    "lines": pre_tokenizers.Split(Regex(r"[^\n]*\n"), "isolated"),
    "never": pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
}
FRAGMENTS = [
    "word",
    " word",
    "\n",
    "\n\n",
    " \n",
    "\r\n",
    "  ",
    "\t",
    "12345",
    "é",
    "日本",
    "。",
    "(a",
    "-",
    "...",
    "🙂",
    "\u0301",
]


def split_apart(text: str, splitter: pre_tokenizers.PreTokenizer, size: int) -> list[tuple[str, tuple[int, int]]]:
    pieces, base = [], 0
    for chunk in chunks(text, splitter.pre_tokenize_str, size):
        pieces += [(piece, (a + base, b + base)) for piece, (a, b) in splitter.pre_tokenize_str(chunk)]
        base += len(chunk)
    assert base == len(text)
    return pieces


@pytest.mark.parametrize("name", SPLITTERS)
@settings(max_examples=12)
@given(
    unit=st.lists(st.sampled_from(FRAGMENTS), min_size=1, max_size=40).map("".join),
    size=st.integers(min_value=20, max_value=90),
)
def test_cutting_changes_no_piece(name: str, unit: str, size: int) -> None:
    text = unit * (1 + 1500 // len(unit))
    assert split_apart(text, SPLITTERS[name], size) == SPLITTERS[name].pre_tokenize_str(text)


def test_prose_is_cut_near_the_wanted_size() -> None:
    text = "A line of the book, which ends here.\n" * 2000
    lengths = [len(chunk) for chunk in chunks(text, SPLITTERS["official"].pre_tokenize_str, 1000)]
    assert len(lengths) > 60
    assert max(lengths[:-1]) <= 1000 + 512


def test_text_without_a_safe_place_stays_whole_and_is_tried_rarely() -> None:
    tries = 0

    def split(text: str) -> list[tuple[str, tuple[int, int]]]:
        nonlocal tries
        tries += 1
        return SPLITTERS["never"].pre_tokenize_str(text)

    text = "a.b c\n" * 100_000
    assert list(chunks(text, split, 1000)) == [text]
    assert tries < 1500


def test_empty_text_has_no_chunk() -> None:
    assert list(chunks("", SPLITTERS["gpt2"].pre_tokenize_str)) == []
