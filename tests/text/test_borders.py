"""Word borders among tokens."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import pytest

from octavo.text.borders import WordBorders
from octavo.text.tokenizer import Tokenizer

ROOT = Path(__file__).resolve().parents[2]
TEXTS = [
    "The code of Olounorieholm is 83762.", "dismay'd? 'tis naïve, señor", "x", "“Ja” — Größe: £37 «Straße»",
    "Война и мир, Ψυχή", "我住在北京。 Room 12号", "🙂🙃ok",
]  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.load(ROOT / "weights" / "octavo-xs")


def of_a_word(character: str) -> bool:
    if character.isascii():
        return character.isalnum()
    return unicodedata.category(character)[0] == "L" and character < "\u0800"


@pytest.mark.parametrize("text", TEXTS)
def test_a_border_is_where_the_text_says(tokenizer: Tokenizer, text: str) -> None:
    ids = np.array(tokenizer.encode(text))
    inside = WordBorders(tokenizer).inside(ids, np.arange(len(ids) + 1))
    assert inside.shape == (len(ids) + 1,)
    assert not inside[0]
    assert not inside[-1]
    starts = {len(text[:at].encode()): at for at in range(len(text))}  # by bytes before them
    ends = np.cumsum([len(tokenizer.token_bytes(int(token))) for token in ids])
    for at, end in enumerate(ends[:-1], 1):
        place = starts.get(int(end))
        assert inside[at] == (place is None or (of_a_word(text[place - 1]) and of_a_word(text[place]))), text[:place]


def test_an_empty_text_has_one_border(tokenizer: Tokenizer) -> None:
    assert WordBorders(tokenizer).inside(np.array([], dtype=np.int64), np.array([0])).tolist() == [False]
