"""Spellings and order of the control tokens."""

from pathlib import Path

from octavo.text.special import SPECIAL_TOKENS, Special
from octavo.text.tokenizer import Tokenizer
from tests.support.tiny_tokenizer import tiny_tokenizer


def test_order_is_the_id_order_of_our_own_tokenizers(tmp_path: Path) -> None:
    tokenizer = Tokenizer.load(tiny_tokenizer(tmp_path))
    assert [tokenizer.special(token) for token in SPECIAL_TOKENS] == list(range(16))


def test_spellings_use_the_full_width_bar_and_the_lower_block() -> None:
    assert Special.BOS == "<\uff5cbegin\u2581of\u2581sentence\uff5c>"
    assert Special.DSML == "\uff5cDSML\uff5c"
    assert "".join(Special).isascii() is False
    assert all("|" not in token and " " not in token for token in Special)
