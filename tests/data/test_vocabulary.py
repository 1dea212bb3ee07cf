"""Tables over the vocabulary."""

from pathlib import Path

import numpy as np

from octavo.data.vocabulary import Vocabulary
from tests.support.tiny_tokenizer import tiny_tokenizer


def test_text_of_ids_is_what_was_encoded(tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    file = tiny_tokenizer(tmp_path)
    vocabulary = Vocabulary.load(file)
    text = "The sea — “gives back” what it takes?\n\n48 ß"
    assert vocabulary.text(np.array(Tokenizer.from_file(str(file)).encode(text).ids, dtype=np.uint16)) == text


def test_tables_say_what_tokens_look_like() -> None:
    pieces = [b"<s>", b" The", b" the", b".", b'."', b"\n", b"\n\n", b" Mr", b"ing", b" 4", "é".encode()[:1]]
    vocabulary = Vocabulary(pieces, {"<s>": 0})
    found = {name: np.flatnonzero(getattr(vocabulary, name)).tolist() for name in ("newline", "blank", "ends", "word")}
    assert found == {"newline": [5, 6], "blank": [6], "ends": [3, 4], "word": [1, 2, 7, 9]}
    assert np.flatnonzero(vocabulary.opens).tolist() == [1, 7, 9]
    assert np.flatnonzero(vocabulary.abbreviation).tolist() == [7]
    assert np.flatnonzero(vocabulary.lower).tolist() == [2]
    assert np.flatnonzero(vocabulary.letter).tolist() == [8]
