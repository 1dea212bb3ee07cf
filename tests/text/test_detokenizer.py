"""Streaming decode: never half a character, always the whole text."""

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavo.config.errors import TextError
from octavo.text.detokenizer import Detokenizer
from octavo.text.tokenizer import Tokenizer
from tests.support.tiny_tokenizer import tiny_tokenizer


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return Tokenizer.load(tiny_tokenizer(tmp_path_factory.mktemp("tokenizer")))


@pytest.fixture(scope="module")
def token_of_byte(tokenizer: Tokenizer) -> dict[bytes, int]:
    return {tokenizer.token_bytes(token): token for token in range(16, tokenizer.vocab_size)}


@given(text=st.text(st.characters(codec="utf-8"), max_size=30))
def test_valid_text_split_at_every_byte_never_shows_a_broken_character(
    tokenizer: Tokenizer, token_of_byte: dict[bytes, int], text: str
) -> None:
    detokenizer = Detokenizer(tokenizer)
    out = ""
    sent = b""
    for byte in text.encode():
        sent += bytes([byte])
        out += detokenizer.push([token_of_byte[bytes([byte])]])
        assert text.startswith(out)
        assert detokenizer.pending == (out.encode() != sent)
    assert out == text
    assert detokenizer.finish() == ""


@given(
    ids=st.lists(st.integers(min_value=0, max_value=383), max_size=30),
    cuts=st.lists(st.integers(min_value=0, max_value=30)),
)
def test_any_ids_in_any_pieces_give_what_decode_gives(tokenizer: Tokenizer, ids: list[int], cuts: list[int]) -> None:
    detokenizer = Detokenizer(tokenizer)
    borders = [0, *sorted(min(cut, len(ids)) for cut in cuts), len(ids)]
    pieces = [detokenizer.push(ids[a:b]) for a, b in pairwise(borders)]
    assert "".join(pieces) + detokenizer.finish() == tokenizer.decode(ids)


def test_unfinished_character_is_held_and_then_marked(tokenizer: Tokenizer, token_of_byte: dict[bytes, int]) -> None:
    detokenizer = Detokenizer(tokenizer)
    first, second, third = (token_of_byte[bytes([byte])] for byte in "日".encode())
    assert detokenizer.push([first, second]) == ""
    assert detokenizer.pending
    assert detokenizer.finish() == "\ufffd"
    assert not detokenizer.pending
    assert detokenizer.push([first, second, third]) == "日"


def test_skipped_ids_have_no_text_and_break_no_character(tokenizer: Tokenizer, token_of_byte: dict[bytes, int]) -> None:
    eos = tokenizer.special("eos")
    first, second = (token_of_byte[bytes([byte])] for byte in "é".encode())
    assert Detokenizer(tokenizer, skip=[eos]).push([first, eos, second]) == "é"
    assert Detokenizer(tokenizer).push([eos]) == "<｜end▁of▁sentence｜>"


def test_id_out_of_range_is_an_error(tokenizer: Tokenizer) -> None:
    with pytest.raises(TextError, match="384 is outside the vocabulary of 384"):
        Detokenizer(tokenizer).push([384])


def test_two_streams_do_not_share_state(tmp_path: Path, tokenizer: Tokenizer, token_of_byte: dict[bytes, int]) -> None:
    one, two = Detokenizer(tokenizer), Detokenizer(tokenizer)
    first, second = (token_of_byte[bytes([byte])] for byte in "é".encode())
    one.push([first])
    assert two.push([token_of_byte[b"x"]]) == "x"
    assert one.push([second]) == "é"
