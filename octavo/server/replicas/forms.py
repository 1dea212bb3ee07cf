"""The name of the document that a form brings, without taking the form in.

Covers: the field `name`, or else the first file's own name, of a multipart body in a file. Does not cover: checking
either (`octavo.server.protocol.uploads`, in the replica).
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

MAX_NAME = 1024
_CHUNK = 2**20


def document_name(body: Path, content_type: bytes) -> str | None:
    """The name, or None where the form has none or is broken. Blocking: reads up to the whole file, at about a
    GB a second."""
    _, options = parse_options_header(content_type)
    boundary = options.get(b"boundary")
    if not boundary:
        return None
    found = _Names()
    try:
        parser = MultipartParser(boundary, {
            "on_part_begin": found.begin, "on_header_field": found.field, "on_header_value": found.value,
            "on_header_end": found.header, "on_part_data": found.data,
        })  # fmt: skip
        with body.open("rb") as file:
            while found.name is None and (chunk := file.read(_CHUNK)):
                parser.write(chunk)
    except FormParserError:
        return None
    return found.given


class _Names:
    """What the parser tells, kept where it is a name."""

    def __init__(self) -> None:
        self._field = self._value = b""
        self._disposition: dict[bytes, bytes] = {}
        self._parts: list[bytes] = []
        self.name: str | None = None
        self._file: str | None = None

    @property
    def given(self) -> str | None:
        """The name: the field's, else the file's without its last ending."""
        self._end()
        return self.name if self.name is not None else self._file

    def begin(self) -> None:
        """A part begins."""
        self._end()
        self._disposition, self._field, self._value = {}, b"", b""

    def field(self, data: bytes, start: int, end: int) -> None:
        """Some of a header's name."""
        self._field += data[start:end]

    def value(self, data: bytes, start: int, end: int) -> None:
        """Some of a header's value."""
        self._value += data[start:end]

    def header(self) -> None:
        """A header is whole."""
        if self._field.lower() == b"content-disposition":
            _, self._disposition = parse_options_header(self._value)
            file = self._disposition.get(b"filename")
            if file is not None and self._disposition.get(b"name") == b"file" and self._file is None:
                self._file = PurePosixPath(file.decode("utf-8", "replace")).name.rsplit(".", 1)[0]
        self._field = self._value = b""

    def data(self, data: bytes, start: int, end: int) -> None:
        """Some of a part."""
        if self._disposition.get(b"name") == b"name" and sum(map(len, self._parts)) < MAX_NAME:
            self._parts.append(data[start:end])

    def _end(self) -> None:
        if self._parts and self.name is None:
            self.name = b"".join(self._parts)[:MAX_NAME].decode("utf-8", "replace")
        self._parts = []
