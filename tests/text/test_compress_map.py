"""The folded vocabulary: which ids share one, which do not, and that the numbering is by first appearance."""

from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer as Library
from tokenizers import decoders, models, pre_tokenizers

from octavo.text.compress_map import compress_map
from octavo.text.tokenizer import Tokenizer
from tests.support.tiny_tokenizer import tiny_tokenizer

WORDS = [
    "the",
    " the",
    " The",
    "THE",
    "thé",
    "ｔｈｅ",
    " ",
    "  ",
    "\n",
    " \n\t",
    "\n\na",
    "a",
    "ﬁ",
    "fi",
    "\u0301",
    "x",
]


def byte_level(text: str) -> str:
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(text)[0][0]


@pytest.fixture
def tokenizer(tmp_path: Path) -> Tokenizer:
    """Ids 0..15 are the words above, 16.. are three single bytes that are no character alone."""
    parts = [byte_level("é")[0], byte_level("é")[1], byte_level("日")[0]]
    vocabulary = {piece: index for index, piece in enumerate([*map(byte_level, WORDS), *parts])}
    library = Library(models.BPE(vocab=vocabulary, merges=[]))
    library.decoder = decoders.ByteLevel()
    library.save(str(tmp_path / "tokenizer.json"))
    return Tokenizer.load(tmp_path)


def test_case_accents_width_and_outer_space_fold(tokenizer: Tokenizer) -> None:
    map_V, _ = compress_map(tokenizer)
    of = dict(zip(WORDS, map_V.tolist(), strict=False))
    assert len({of[word] for word in ("the", " the", " The", "THE", "thé", "ｔｈｅ")}) == 1
    assert of["ﬁ"] == of["fi"]
    assert of["\n\na"] == of["a"]
    assert len({of[word] for word in ("the", "a", "fi", "x")}) == 4


def test_white_space_of_any_kind_is_one_space_and_not_nothing(tokenizer: Tokenizer) -> None:
    map_V, _ = compress_map(tokenizer)
    of = dict(zip(WORDS, map_V.tolist(), strict=False))
    assert len({of[word] for word in (" ", "  ", "\n", " \n\t")}) == 1
    assert of[" "] != of["\u0301"]


def test_part_characters_do_not_merge(tokenizer: Tokenizer) -> None:
    map_V, size = compress_map(tokenizer)
    assert len(set(map_V[16:].tolist())) == 3
    assert not set(map_V[16:].tolist()) & set(map_V[:16].tolist())
    assert size == 9  # the, space, a, fi, lone accent, x, three bytes


def test_numbers_are_given_by_first_appearance(tokenizer: Tokenizer) -> None:
    map_V, size = compress_map(tokenizer)
    assert map_V.dtype == np.int32
    assert map_V.tolist() == [0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 3, 3, 4, 5, 6, 7, 8]
    assert size == int(map_V.max()) + 1


def test_added_tokens_take_part_and_the_result_is_repeatable(tmp_path: Path) -> None:
    tokenizer = Tokenizer.load(tiny_tokenizer(tmp_path))
    map_V, size = compress_map(tokenizer)
    again_V, again = compress_map(Tokenizer.load(tmp_path))
    assert map_V.shape == (384,)
    assert len(set(map_V[:16].tolist())) == 16
    assert np.array_equal(map_V, again_V)
    assert size == again
