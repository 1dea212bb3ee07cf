"""The head of an `.octavo` file: which model, tokenizer and byte layout its pages belong to.

Covers: the value, its bytes, and comparing it with the model at hand. Does not cover: records.

The configuration in it always has the fields of the index, whatever their defaults: the values behind an approximate
choice depend on them. Files of two levels from before these were written had other defaults.

    magic 8 | format version u32 | JSON bytes u32 | CRC-32 of the JSON u32 | CRC-32 of the 20 bytes before u32 | zeros
    to 64 | JSON | zeros to a multiple of 64                                                          little-endian
"""

from __future__ import annotations

import json
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

from octavo.cache.layout import CacheLayout
from octavo.config.errors import ConfigError, DocumentError
from octavo.config.levels import INDEX_FIELDS
from octavo.config.model import ModelConfig

MAGIC = b"\x89OCTAVO\n"
FORMAT_VERSION = 1
ALIGN = 64
_PREFIX = struct.Struct("<8sIIII")
_LAST_INDEX_FIELD = "index_from_tokens"  # files without it were read when the defaults were these
_FORMER_INDEX = {"index_block_tokens": 16, "index_blocks": 64, _LAST_INDEX_FIELD: 0}


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentHeader:
    """`model_name` says how the model was called; the fingerprints decide whether a model and tokenizer fit."""

    model_name: str
    model_fingerprint: str
    tokenizer_fingerprint: str
    layout: CacheLayout

    def to_bytes(self) -> bytes:
        """The whole head, a multiple of 64 bytes."""
        layout = self.layout
        values = {
            "model": {"name": self.model_name, "fingerprint": self.model_fingerprint},
            "tokenizer": {"fingerprint": self.tokenizer_fingerprint},
            "config": layout.config.to_dict() | {name: getattr(layout.config, name) for name in INDEX_FIELDS},
            "rows": {"main": str(layout.main), "index": str(layout.index), "margin": layout.margin},
        }
        body = json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        prefix = _PREFIX.pack(MAGIC, FORMAT_VERSION, len(body), zlib.crc32(body), 0)[:-4]
        prefix += struct.pack("<I", zlib.crc32(prefix))
        return padded(padded(prefix) + body)

    def require(self, wanted: DocumentHeader, path: Path) -> None:
        """Raise DocumentError, saying what differs, unless pages under this head suit `wanted`."""
        pairs = [
            ("model", self.model_fingerprint, wanted.model_fingerprint),
            ("tokenizer", self.tokenizer_fingerprint, wanted.tokenizer_fingerprint),
        ]
        for what, found, given in pairs:
            if found != given:
                name = f" ({self.model_name})" if what == "model" and self.model_name else ""
                raise DocumentError(
                    f"{path}: was made with another {what}: {found[:12]}{name} there, {given[:12]} here; "
                    f"use that {what}, or read the text again"
                )
        self.require_layout(wanted.layout, path)

    def require_reading(self, wanted: DocumentHeader, path: Path) -> None:
        """Raise DocumentError where reading on would read otherwise than what is there was read."""
        both_exact = self.layout.config.levels is None and wanted.layout.config.levels is None
        for name in () if both_exact else INDEX_FIELDS:
            found, given = getattr(self.layout.config, name), getattr(wanted.layout.config, name)
            if found != given:
                raise DocumentError(f"{path}: was read with {name} = {found}; go on with that, not with {given}")

    def require_layout(self, wanted: CacheLayout, path: Path) -> None:
        """Raise DocumentError unless rows are stored as `wanted` has them."""
        for name in ("main", "index", "margin"):
            found, given = getattr(self.layout, name), getattr(wanted, name)
            if found != given:
                raise DocumentError(f"{path}: its rows are stored with {name} = {found}; the cache here has {given}")
        if self.layout.stores != wanted.stores or self.layout.partials != wanted.partials:
            raise DocumentError(f"{path}: was made with a model of another configuration")


def parse_header(data: bytes | memoryview, path: Path) -> tuple[DocumentHeader, int]:
    """The header at the start of a file and the bytes it takes. Raises DocumentError for anything else."""
    data = memoryview(data)
    if len(data) == 0:
        raise DocumentError(f"{path}: the file is empty")
    if bytes(data[: len(MAGIC)]) != MAGIC[: len(data)]:
        raise DocumentError(f"{path}: not an .octavo document")
    if len(data) < ALIGN:
        raise _cut_off(path, len(data))
    magic, version, length, body_crc, crc = _PREFIX.unpack_from(data)
    if zlib.crc32(data[: _PREFIX.size - 4]) != crc or any(data[_PREFIX.size : ALIGN]):
        raise DocumentError(f"{path}: the head is altered (bytes 0 to {ALIGN - 1})")
    if version > FORMAT_VERSION:
        raise DocumentError(
            f"{path}: is of format version {version}; this Octavo reads up to {FORMAT_VERSION}: a newer one is needed"
        )
    size = ALIGN + length + -length % ALIGN
    if len(data) < size:
        raise _cut_off(path, len(data))
    if zlib.crc32(data[ALIGN : ALIGN + length]) != body_crc or any(data[ALIGN + length : size]):
        raise DocumentError(f"{path}: the head is altered (bytes {ALIGN} to {size - 1})")
    return _from_json(bytes(data[ALIGN : ALIGN + length]), path), size


def padded(data: bytes) -> bytes:
    """`data` and zeros up to a multiple of 64 bytes."""
    return data + bytes(-len(data) % ALIGN)


def _from_json(body: bytes, path: Path) -> DocumentHeader:
    try:
        values = json.loads(body)
        rows = values["rows"]
        fields = values["config"]
        if fields.get("index_levels") == 2 and _LAST_INDEX_FIELD not in fields:
            fields = _FORMER_INDEX | fields
        config = ModelConfig.from_json(fields)
        return DocumentHeader(
            model_name=values["model"]["name"],
            model_fingerprint=values["model"]["fingerprint"],
            tokenizer_fingerprint=values["tokenizer"]["fingerprint"],
            layout=CacheLayout(config, main=rows["main"], index=rows["index"], margin=rows["margin"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError, ConfigError) as error:
        raise DocumentError(f"{path}: the head cannot be understood: {error}") from error


def _cut_off(path: Path, length: int) -> DocumentError:
    return DocumentError(f"{path}: ends after {length} bytes, inside its head: nothing can be read from it")
