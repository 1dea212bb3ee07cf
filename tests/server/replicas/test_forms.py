"""The name in a form is the one that the upload itself would find."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from octavo.server.replicas.forms import document_name


def written(folder: Path, *, name: str | None, files: list[tuple[str, Any]]) -> tuple[Path, bytes]:
    """A form as a client sends it."""
    data = {} if name is None else {"name": name}
    request = httpx.Request("POST", "http://x", data=data, files=files)
    path = folder / "form"
    path.write_bytes(request.read())
    return path, request.headers["content-type"].encode()


FILE = ("file", ("books/moby.dick.txt", b"Call me Ishmael.\r\n--no boundary" * 100_000))


@pytest.mark.parametrize(
    ("name", "files", "found"),
    [
        ("tale", [FILE], "tale"),
        ("tale-ü", [("file", ("x.txt", b""))], "tale-ü"),
        (None, [FILE], "moby.dick"),
        (None, [("other", ("x.txt", b"1")), FILE, ("file", ("y.txt", b"2"))], "moby.dick"),
        (None, [("other", ("x.txt", b"1"))], None),
    ],
)
def test_names(tmp_path: Path, name: str | None, files: list[tuple[str, Any]], found: str | None) -> None:
    assert document_name(*written(tmp_path, name=name, files=files)) == found


def test_a_name_behind_the_file_is_found(tmp_path: Path) -> None:
    path, kind = written(tmp_path, name=None, files=[FILE, ("name", (None, b"tale"))])
    assert document_name(path, kind) == "tale"


@pytest.mark.parametrize("body", [b"", b"no form", b"--b\r\nx", b"--b\r\n: \r\n\r\n"])
def test_broken_forms_have_none(tmp_path: Path, body: bytes) -> None:
    (tmp_path / "form").write_bytes(body)
    assert document_name(tmp_path / "form", b"multipart/form-data; boundary=b") is None
    assert document_name(tmp_path / "form", b"multipart/form-data") is None
