"""Bytes of a source file to text.

Covers: the checks a text must pass before anything reads it, with errors that name the file and the place. Does not
cover: other encodings than UTF-8, which are refused; newline translation or removal of a byte order mark, which would
shift the offsets that answers point at.
"""

from octavo.config.errors import TextError


def plain_text(data: bytes, *, name: str) -> str:
    """Decode UTF-8 `data`, character for character as stored.

    Raises TextError for no bytes at all, for a NUL byte (taken as the sign of a binary file) and for bytes that are
    not UTF-8, each with `name` and the byte position.
    """
    if not data:
        raise TextError(f"{name}: the file is empty")
    nul = data.find(b"\x00")
    if nul >= 0:
        raise TextError(f"{name}: byte {nul} is NUL, so this looks like a binary file; only UTF-8 text can be read")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        found = f"byte {error.start} is 0x{data[error.start]:02x}"
        raise TextError(f"{name}: not UTF-8 text: {found} ({error.reason})") from None


def check_unicode(text: str, *, name: str = "text") -> None:
    """Refuse a string that has no UTF-8 form: TextError naming the first lone surrogate and its character index."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        found = f"character {error.start} is the lone surrogate U+{ord(text[error.start]):04X}"
        raise TextError(f"{name}: {found}, which has no UTF-8 form") from None
