"""One record of an `.octavo` file as bytes.

Covers: prefix, table, sections, checksums, both ways. Does not cover: what the kinds mean together (`catalog`).

    prefix   magic 8 | kind u32 | flags u32 | number u64 | bytes u64 | first u64 | stop u64 | table bytes u32
             | CRC-32 of the table u32 | CRC-32 of the 56 bytes before u32 | zeros to 64               little-endian
    table    JSON {"fields": {...}, "sections": [[name, dtype, shape, offset in the record, CRC-32], ...]}, zeros to 64
    section  the values, zeros to a multiple of 64
"""

from __future__ import annotations

import json
import math
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import torch
from torch import Tensor

from octavo.cache.document.header import ALIGN, padded

RECORD_MAGIC = b"\x89OCTREC\n"
_PREFIX = struct.Struct("<8sIIQQQQIII")
_DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in (
    torch.uint8, torch.int32, torch.int64, torch.bfloat16, torch.float32, torch.float64)}  # fmt: skip


class Kind(IntEnum):
    """What a record holds."""

    SOURCES = 1
    PAGES = 2
    TAIL = 3
    INDEX = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Prefix:
    """The first 64 bytes of a record: `nbytes` in all, tokens first .. stop - 1; `resumes`: tails at `stop` follow."""

    kind: Kind
    resumes: bool
    number: int
    nbytes: int
    first: int
    stop: int
    table_bytes: int
    table_crc: int

    def to_bytes(self) -> bytes:
        """64 bytes."""
        packed = _PREFIX.pack(
            RECORD_MAGIC, self.kind, self.resumes, self.number, self.nbytes,
            self.first, self.stop, self.table_bytes, self.table_crc, 0,
        )[:-4]  # fmt: skip
        return padded(packed + struct.pack("<I", zlib.crc32(packed)))

    @property
    def tokens(self) -> str:
        """The tokens in words, for messages."""
        return f"tokens {self.first:,} to {self.stop:,}"


def parse_prefix(data: bytes | memoryview) -> Prefix | None:
    """The prefix in 64 bytes, or None when they are none or altered."""
    if len(data) < ALIGN or bytes(data[:8]) != RECORD_MAGIC:
        return None
    _, kind, flags, number, nbytes, first, stop, table_bytes, table_crc, crc = _PREFIX.unpack_from(data)
    if zlib.crc32(data[: _PREFIX.size - 4]) != crc or any(data[_PREFIX.size : ALIGN]) or kind not in tuple(Kind):
        return None
    return Prefix(
        kind=Kind(kind), resumes=bool(flags), number=number, nbytes=nbytes,
        first=first, stop=stop, table_bytes=table_bytes, table_crc=table_crc,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Section:
    """A named array inside a record; `offset` counts from the record's start."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    crc: int

    @property
    def nbytes(self) -> int:
        """Bytes of the values."""
        return math.prod(self.shape) * _DTYPES[self.dtype].itemsize


class RecordError(Exception):
    """A record's bytes are not what its checksums say; the message names the part."""


class Record:
    """A record in a mapped file: `data` are the file's bytes [n] uint8, `offset` the record's place in them.

    Sections are views of `data`; their checksum is compared at every `read`.
    """

    def __init__(self, data: Tensor, offset: int) -> None:
        self._data, self._bytes, self.offset = data, data.numpy().data, offset
        prefix = parse_prefix(self._bytes[offset : offset + ALIGN])
        if prefix is None or offset + prefix.nbytes > len(data):
            raise RecordError("its prefix is altered")
        self.prefix = prefix
        table = self._bytes[offset + ALIGN : offset + ALIGN + prefix.table_bytes]
        if zlib.crc32(table) != prefix.table_crc:
            raise RecordError("its table is altered")
        values = json.loads(bytes(table))
        self.fields: dict[str, Any] = values["fields"]
        self.sections = {
            name: Section(name, dtype, tuple(shape), at, crc) for name, dtype, shape, at, crc in values["sections"]
        }

    def read(self, name: str) -> Tensor:
        """The values of a section, a read-only view. Raises RecordError when they are altered or missing."""
        section = self.sections.get(name)
        if section is None:
            raise RecordError(f"it has no section {name!r}")
        start = self.offset + section.offset
        if zlib.crc32(self._bytes[start : start + section.nbytes]) != section.crc:
            raise RecordError(f"section {name!r} is altered (bytes {start} to {start + section.nbytes - 1})")
        return self._data[start : start + section.nbytes].view(_DTYPES[section.dtype]).view(section.shape)

    def verify(self) -> None:
        """Read every byte of the record; RecordError for the first part that is altered."""
        at = ALIGN + self.prefix.table_bytes
        for section in self.sections.values():
            self._require_zeros(at, section.offset)
            self.read(section.name)
            at = section.offset + section.nbytes
        self._require_zeros(at, self.prefix.nbytes)

    def _require_zeros(self, start: int, stop: int) -> None:
        if any(self._bytes[self.offset + start : self.offset + stop]):
            raise RecordError(f"padding is altered (bytes {self.offset + start} to {self.offset + stop - 1})")


def pack_record(
    kind: Kind,
    *,
    number: int,
    first: int,
    stop: int,
    sections: Mapping[str, Tensor],
    resumes: bool = False,
    fields: Mapping[str, Any] | None = None,
) -> list[bytes | memoryview]:
    """The pieces of a record, to be written one after the other. CPU tensors are not copied."""
    raw = {name: _as_bytes(values) for name, values in sections.items()}
    crcs = {name: zlib.crc32(data) for name, data in raw.items()}

    def table(start: int) -> tuple[bytes, int]:
        rows, at = [], start
        for name, values in sections.items():
            rows.append([name, str(values.dtype).removeprefix("torch."), list(values.shape), at, crcs[name]])
            at += len(raw[name]) + -len(raw[name]) % ALIGN
        made = {"fields": dict(fields or {}), "sections": rows}
        return json.dumps(made, separators=(",", ":"), ensure_ascii=False).encode(), at

    start, (text, end) = 0, table(0)
    while ALIGN + len(padded(text)) != start:  # offsets are written in decimal, so the table's length depends on them
        start = ALIGN + len(padded(text))
        text, end = table(start)
    prefix = Prefix(
        kind=kind, resumes=resumes, number=number, nbytes=end,
        first=first, stop=stop, table_bytes=len(text), table_crc=zlib.crc32(text),
    )  # fmt: skip
    pieces: list[bytes | memoryview] = [prefix.to_bytes() + padded(text)]
    for data in raw.values():
        pieces += [data, bytes(-len(data) % ALIGN)]
    return pieces


def _as_bytes(values: Tensor) -> memoryview:
    flat = values.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data if flat.numel() else memoryview(b"")
