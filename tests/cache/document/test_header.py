"""The head of a document: its bytes, and what it refuses."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import pytest

from octavo.cache.document.header import ALIGN, FORMAT_VERSION, parse_header
from octavo.cache.layout import CacheLayout
from octavo.config.errors import DocumentError
from octavo.config.presets import flash, xs
from tests.support.documents import header, small_layout
from tests.support.sequences import small_config

PATH = Path("book.octavo")


@pytest.mark.parametrize("layout", [
    small_layout(main="fp8", index="fp4"), CacheLayout(xs(), margin=3), CacheLayout(flash(), main="bf16", index="bf16"),
])  # fmt: skip
def test_round_trip(layout: CacheLayout) -> None:
    made = header(layout, model_name="größer")
    data = made.to_bytes()
    assert len(data) % ALIGN == 0
    assert parse_header(data + b"what follows", PATH) == (made, len(data))


def test_cut_off_anywhere_is_an_error() -> None:
    data = header().to_bytes()
    for length in range(len(data)):
        with pytest.raises(DocumentError, match="inside its head|is empty"):
            parse_header(data[:length], PATH)


def test_any_altered_byte_is_an_error() -> None:
    data = bytearray(header().to_bytes())
    for place in range(len(data)):
        data[place] ^= 1
        with pytest.raises(DocumentError, match="altered|not an .octavo document"):
            parse_header(data, PATH)
        data[place] ^= 1
    parse_header(data, PATH)


def test_a_newer_version_says_so() -> None:
    data = bytearray(header().to_bytes())
    data[8:12] = struct.pack("<I", FORMAT_VERSION + 1)
    data[20:24] = struct.pack("<I", zlib.crc32(data[:20]))
    with pytest.raises(DocumentError, match=f"version {FORMAT_VERSION + 1}; this Octavo reads up to {FORMAT_VERSION}"):
        parse_header(data, PATH)


@pytest.mark.parametrize("data", [b"PK\x03\x04", b"Call me Ishmael." * 20, b"\x89OCTAVE\n" + bytes(200)])
def test_other_files_are_no_documents(data: bytes) -> None:
    with pytest.raises(DocumentError, match="^book.octavo: not an .octavo document$"):
        parse_header(data, PATH)


@pytest.mark.parametrize(("change", "message"), [
    ({"model_fingerprint": "c" * 64}, "another model: aaaaaaaaaaaa (tiny) there, cccccccccccc here"),
    ({"tokenizer_fingerprint": "d" * 64}, "another tokenizer: bbbbbbbbbbbb there, dddddddddddd here"),
    ({"layout": small_layout(main="bf16")}, "main = fp32; the cache here has bf16"),
    ({"layout": small_layout(index="fp4")}, "index = fp32; the cache here has fp4"),
    ({"layout": small_layout(margin=2)}, "margin = 8; the cache here has 2"),
    ({"layout": CacheLayout(small_config(head_dim=40))}, "another configuration"),
])  # fmt: skip
def test_what_differs_is_named(change: dict, message: str) -> None:
    with pytest.raises(DocumentError) as caught:
        header().require(header(**change), PATH)
    assert message in str(caught.value)
    assert str(caught.value).startswith("book.octavo: ")


def test_the_same_model_under_another_name_suits() -> None:
    header().require(header(model_name="other"), PATH)
