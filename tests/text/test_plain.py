"""Bytes to text: what is refused, and that nothing is changed."""

import pytest

from octavo.config.errors import TextError
from octavo.text.plain import check_unicode, plain_text


def test_text_is_kept_character_for_character() -> None:
    assert plain_text("\ufeffa\r\nb\u2028é\U0001f642".encode(), name="x") == "\ufeffa\r\nb\u2028é\U0001f642"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "book.txt: the file is empty"),
        (b"abc\x00def", "book.txt: byte 3 is NUL"),
        (b"caf\xe9 au lait", "book.txt: not UTF-8 text: byte 3 is 0xe9"),
        (b"ab\xed\xa0\x80", "book.txt: not UTF-8 text: byte 2 is 0xed"),
        (b"cut \xe2\x82", "book.txt: not UTF-8 text: byte 4 is 0xe2"),
    ],
)
def test_other_bytes_are_refused_with_name_and_place(data: bytes, message: str) -> None:
    with pytest.raises(TextError, match=message) as caught:
        plain_text(data, name="book.txt")
    assert "\n" not in str(caught.value)


def test_lone_surrogate_is_named_with_its_index() -> None:
    check_unicode("\U0001f642")
    with pytest.raises(TextError, match=r"character 2 is the lone surrogate U\+D83D"):
        check_unicode("ab\ud83d\U0001f642")
