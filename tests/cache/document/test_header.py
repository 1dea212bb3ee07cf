"""The head of a document: its bytes, and what it refuses."""

from __future__ import annotations

import json
import struct
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from octavo.cache.document import DocumentHeader, DocumentReader, DocumentWriter
from octavo.cache.document.header import ALIGN, FORMAT_VERSION, MAGIC, padded, parse_header
from octavo.cache.layout import CacheLayout
from octavo.config.errors import DocumentError
from octavo.config.levels import INDEX_FIELDS
from octavo.config.presets import flash, xs
from tests.support.documents import empty_state, fake_ids, header, read_on, small_layout, sources_of
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


class OldHeader(DocumentHeader):
    """As heads were written while the fields of the index were left out at their defaults, then 16 and 64, and there
    was no `index_from_tokens`; of `layout` those that are not the defaults of today are written."""

    def to_bytes(self) -> bytes:
        data = super().to_bytes()
        length = struct.unpack_from("<I", data, 12)[0]
        values = json.loads(data[ALIGN : ALIGN + length])
        values["config"] = self.layout.config.to_dict()
        body = json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        prefix = struct.pack("<8sIII", MAGIC, FORMAT_VERSION, len(body), zlib.crc32(body))
        return padded(padded(prefix + struct.pack("<I", zlib.crc32(prefix))) + body)


def levels_layout(**index: int) -> CacheLayout:
    return CacheLayout(small_config(index_levels=2, **index))


def old(layout: CacheLayout) -> OldHeader:
    made = header(layout)
    return OldHeader(**{name: getattr(made, name) for name in DocumentHeader.__dataclass_fields__})


def index_of(found: DocumentHeader) -> tuple[int, ...]:
    return tuple(getattr(found.layout.config, name) for name in INDEX_FIELDS)


def test_fields_of_the_index_are_always_there() -> None:
    for layout in (small_layout(), levels_layout()):
        data = header(layout).to_bytes()
        fields = json.loads(data[ALIGN:].rstrip(b"\0"))["config"]
        assert tuple(fields[name] for name in INDEX_FIELDS) == index_of(header(layout))


@pytest.mark.parametrize(("layout", "wanted"), [
    (levels_layout(), (2, 16, 64, 0)),
    (levels_layout(index_block_tokens=8), (2, 8, 64, 0)),
    (levels_layout(index_blocks=9), (2, 16, 9, 0)),
    (small_layout(), (1, 4, 1024, 262144)),
])  # fmt: skip
def test_an_old_head_has_the_defaults_of_its_time(layout: CacheLayout, wanted: tuple[int, ...]) -> None:
    found, _ = parse_header(old(layout).to_bytes(), PATH)
    assert index_of(found) == wanted


def test_an_old_file_of_two_levels_is_not_gone_on_with_but_asked(tmp_path: Path) -> None:
    path, layout = tmp_path / "old.octavo", levels_layout()
    with DocumentWriter.create(path, old(layout)) as writer:
        writer.append_sources(sources_of(900), ids=fake_ids(900))
        state = empty_state(layout)
        read_on(writer, state, 512)
        writer.finish(state)
    with pytest.raises(DocumentError, match=r"old.octavo: was read with index_block_tokens = 16; go on with that, not"):
        DocumentWriter.resume(path, header(layout))
    former: dict[str, Any] = {"index_block_tokens": 16, "index_blocks": 64, "index_from_tokens": 0}
    with DocumentWriter.resume(path, header(levels_layout(**former))) as writer:
        assert len(writer.tokens) == 900
    reader = DocumentReader.open(path)
    reader.header.require(header(layout), path)
    assert reader.fill(empty_state(layout)).length == 512


def test_exact_readings_go_on_whatever_blocks_there_would_be() -> None:
    one = header(small_layout())
    other = replace(one, layout=CacheLayout(small_config(index_blocks=9)))
    one.require_reading(other, PATH)
    with pytest.raises(DocumentError, match="was read with index_levels = 1; go on with that, not with 2"):
        one.require_reading(header(levels_layout()), PATH)
    with pytest.raises(DocumentError, match="was read with index_from_tokens = 0; go on with that, not with 64"):
        header(levels_layout(index_from_tokens=0)).require_reading(header(levels_layout(index_from_tokens=64)), PATH)
