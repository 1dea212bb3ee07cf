"""Training on a tiny text: ids of special tokens, single digits, any bytes back again."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from octavo.config.errors import ConfigError
from octavo.data.train_tokenizer import save, train
from octavo.text.special import SPECIAL_TOKENS

TEXTS = ["The king said: it's 1998, and don’t go there again.\n\nThe queen went to the old town in 1999.\n"] * 20
TRAINED = train(TEXTS, vocab_size=300)


def test_special_tokens_come_first_and_bytes_follow():
    assert [TRAINED.id_to_token(i) for i in range(16)] == list(SPECIAL_TOKENS)
    assert len(set(SPECIAL_TOKENS)) == 16
    assert TRAINED.get_vocab_size() == 300
    assert all(len(TRAINED.id_to_token(i)) == 1 for i in range(16, 272))


def test_every_digit_is_one_token():
    tokens = TRAINED.encode("in 19981999", add_special_tokens=False).tokens
    assert tokens[-8:] == list("19981999")


def test_words_carry_their_space_and_contractions_are_split():
    pieces = [piece for piece, _ in TRAINED.pre_tokenizer.pre_tokenize_str("It's a  day 42\n\nshe'll 'twas")]
    words = [piece.replace("Ġ", " ").replace("Ċ", "\n") for piece in pieces]
    assert words == ["It", "'s", " a", " ", " day", " ", "4", "2", "\n\n", "she", "'ll", " '", "twas"]


@given(st.text(max_size=60))
def test_any_text_comes_back(text):
    assert TRAINED.decode(TRAINED.encode(text, add_special_tokens=False).ids, skip_special_tokens=False) == text


def test_saved_files_load_and_name_the_special_tokens(tmp_path):
    save(TRAINED, tmp_path)
    loaded = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert loaded.encode("The king").ids == TRAINED.encode("The king").ids
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert (config["bos_token"], config["eos_token"], config["pad_token"]) == SPECIAL_TOKENS[:3]


def test_a_vocabulary_too_small_or_a_text_too_short_is_refused():
    with pytest.raises(ConfigError, match="272"):
        train(TEXTS, vocab_size=272)
    with pytest.raises(ConfigError, match="4096"):
        train(["tiny"], vocab_size=4096)
