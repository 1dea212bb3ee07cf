"""One safetensors file. Covers: its header, checked against the file so that damage names a tensor, reading through a
memory map that does not stay resident, and writing with equal bytes for equal tensors. Does not cover: what names and
numbers mean (`names.py`, `formats.py`), a folder of files (`folder.py`).

Layout: 8 bytes little-endian header length | JSON header, padded with spaces to a multiple of 8 | tensors without gaps.
"""

from __future__ import annotations

import json
import mmap
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from octavo.config.errors import CheckpointError
from octavo.model.checkpoint.formats import DTYPES, tensor_bytes

_MAX_HEADER = 1 << 28
_PREFIX = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A tensor in a file: stored name, safetensors tag, shape, and the bytes [offset, offset + nbytes) of `path`."""

    name: str
    tag: str
    shape: tuple[int, ...]
    path: Path
    offset: int
    nbytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """Tensors written next to each other, made when it is their turn: (name, tag, shape) of each, and their maker."""

    tensors: tuple[tuple[str, str, tuple[int, ...]], ...]
    make: Callable[[], Sequence[Tensor]]

    @property
    def nbytes(self) -> int:
        """Bytes of all of them."""
        return sum(tensor_bytes(tag, shape) for _, tag, shape in self.tensors)


def read_header(path: Path) -> dict[str, Entry]:
    """All tensors of a file by stored name, in file order. CheckpointError, naming file and tensor, for any damage."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            length = int.from_bytes(file.read(_PREFIX), "little")
            if size < _PREFIX or length > min(size - _PREFIX, _MAX_HEADER):
                raise CheckpointError(f"{path}: damaged header, it claims {length} bytes in a file of {size}")
            text = file.read(length)
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error
    try:
        header = json.loads(text)
        header.pop("__metadata__", None)
        found = [_entry(path, name, fields, _PREFIX + length) for name, fields in header.items()]
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path}: damaged header, it is not a table of tensors") from error
    found.sort(key=lambda entry: (entry.offset, entry.nbytes))
    end = _PREFIX + length
    for entry in found:
        if entry.offset != end:
            raise CheckpointError(f"{path}: damaged header, tensor '{entry.name}' is at {entry.offset}, not at {end}")
        end += entry.nbytes
        if end > size:
            raise CheckpointError(f"{path}: truncated, tensor '{entry.name}' ends at byte {end} of {size}")
    if end != size:
        raise CheckpointError(f"{path}: damaged, its tensors end at byte {end} of {size}")
    return {entry.name: entry for entry in found}


def _entry(path: Path, name: str, fields: object, start: int) -> Entry:
    try:
        tag, shape, (first, last) = fields["dtype"], tuple(fields["shape"]), fields["data_offsets"]  # type: ignore[index]
        good = all(type(n) is int and n >= 0 for n in (*shape, first, last))
    except (KeyError, TypeError, ValueError):
        good, tag, shape, first, last = False, "", (), 0, 0
    if not good or not isinstance(tag, str):
        raise CheckpointError(f"{path}: damaged header, tensor '{name}' lacks a dtype, a shape or its place")
    if tag in DTYPES and last - first != tensor_bytes(tag, shape):
        need = tensor_bytes(tag, shape)
        raise CheckpointError(
            f"{path}: damaged header, tensor '{name}' {list(shape)} {tag} needs {need} bytes and has {last - first}"
        )
    return Entry(name=name, tag=tag, shape=shape, path=path, offset=start + first, nbytes=last - first)


class Maps:
    """Memory maps of the files being read: a few at a time, nothing of them kept resident after a read."""

    def __init__(self, limit: int = 4) -> None:
        self._limit = limit
        self._open: dict[Path, mmap.mmap] = {}

    def __enter__(self) -> Maps:
        return self

    def __exit__(self, *_: object) -> None:
        while self._open:
            self._open.pop(next(iter(self._open))).close()

    def copy(self, entry: Entry, start: int, out: Tensor, *, apart: int | None = None) -> None:
        """Fill `out` (contiguous, the stored dtype) from the tensor's bytes, beginning `start` bytes into them. Rows
        [n, width] of `out` begin `apart` bytes from each other in the file; None: they follow one another."""
        raw = out.view(-1).view(torch.uint8)
        if raw.numel() == 0:
            return
        mapped = self._map(entry.path)
        first, count = entry.offset + start, raw.numel()
        if apart is not None and apart != count // out.shape[0]:
            wide = count // out.shape[0]
            count = apart * (out.shape[0] - 1) + wide
            found = torch.frombuffer(mapped, dtype=torch.uint8, count=count, offset=first)
            raw.view(-1, wide).copy_(found.as_strided((out.shape[0], wide), (apart, 1)))
        else:
            raw.copy_(torch.frombuffer(mapped, dtype=torch.uint8, count=count, offset=first))
        page = first // mmap.PAGESIZE * mmap.PAGESIZE
        mapped.madvise(mmap.MADV_DONTNEED, page, first + count - page)

    def _map(self, path: Path) -> mmap.mmap:
        if path in self._open:
            return self._open[path]
        if len(self._open) >= self._limit:
            self._open.pop(next(iter(self._open))).close()
        try:
            with path.open("rb") as file:
                # A private copy-on-write map is never written to; torch only asks that it could be.
                self._open[path] = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        except (OSError, ValueError) as error:
            raise CheckpointError(f"cannot map {path}: {error}") from error
        return self._open[path]


def write_shard(path: Path, units: Sequence[Unit]) -> None:
    """Write a file with all tensors of `units`, widest elements first so that each is aligned; OSError passes."""
    ordered = sorted(units, key=lambda unit: -max(DTYPES[tag].itemsize for _, tag, _ in unit.tensors))
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, tag, shape in (tensor for unit in ordered for tensor in unit.tensors):
        nbytes = tensor_bytes(tag, shape)
        header[name] = {"dtype": tag, "shape": list(shape), "data_offsets": [at, at + nbytes]}
        at += nbytes
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % _PREFIX)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(_PREFIX, "little") + text)
        for raw in _made(ordered):
            file.write(raw)
        file.flush()
        os.fsync(file.fileno())


def _made(units: Sequence[Unit]) -> Iterator[memoryview]:
    for unit in units:
        for (name, tag, shape), tensor in zip(unit.tensors, unit.make(), strict=True):
            assert (tensor.dtype, tuple(tensor.shape)) == (DTYPES[tag], shape), name
            if prod(shape):
                yield tensor.contiguous().view(-1).view(torch.uint8).numpy().data
