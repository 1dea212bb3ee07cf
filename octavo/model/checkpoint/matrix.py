"""Matrices that stay in their file. Covers: where one lies, reading its bytes by position, checks, decoding on use.
Does not cover: which of them are kept in memory (`octavo.model.offload_store`), whole models (`reader.py`).

Reads are positional (`preadv`), never through a memory map: a file that shrinks under a map kills the process, a short
read is an error that can be named. A file that is not the one whose header was read (another inode, size or time of
change) is refused at the next read.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from octavo.config.errors import CheckpointError
from octavo.kernels.experts.stored import unpack_fp4
from octavo.model.checkpoint import formats
from octavo.model.checkpoint.shard import Entry

# Largest e8m0 bytes with which no stored value can leave FP32: 6 * 2^125 and 448 * 2^118 are below 2^128.
_SAFE_FP4, _SAFE_FP8 = 125 + 127, 118 + 127
_PAGE = 4096  # what direct reads and the memory for them are multiples of
_DIRECT = 1 << 16  # bytes from which a read is direct: rounding to pages costs little then


@dataclass(frozen=True, slots=True)
class Raw:
    """A matrix as stored: rows [n, stored width] and the scale beside them, whose tiles count from row `-first`.

    `scale` is None for plain values, else e8m0 bytes (uint8) or values of a wider floating type.
    """

    rows: Tensor
    scale: Tensor | None
    first: int

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self.rows.nbytes + (0 if self.scale is None else self.scale.nbytes)

    def unpack(self, out: Tensor) -> Tensor:
        """Fill out [n, width] with the values that `load_weights` would give it, bit by bit."""
        packed = self.packed
        if packed is not None and out.dtype == torch.float32:
            unpack_fp4(*packed, out)
            return out
        factors = None if self.scale is None else formats.scale_factors(self.scale)
        return out.copy_(formats.decode_rows(self.rows, factors, self.first))

    @property
    def packed(self) -> tuple[Tensor, Tensor] | None:
        """Packed pairs and e8m0 bytes, if it is stored so."""
        if self.scale is None or self.scale.dtype != torch.uint8 or self.rows.dtype == torch.float8_e4m3fn:
            return None
        return self.rows, self.scale


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredMatrix:
    """Rows first .. first + rows - 1, `width` values each, of matrix number `matrix` of a stored tensor."""

    entry: Entry
    scale: Entry | None
    matrix: int
    first: int
    rows: int
    width: int

    @property
    def nbytes(self) -> int:
        """Bytes that a read takes from the file and that are held afterwards."""
        return self._row_bytes * self.rows + sum(self._scale_span[1:])

    @property
    def _row_bytes(self) -> int:
        kind = formats.DTYPES[self.entry.tag]
        return (self.width // 2 if self.entry.tag in formats.FP4 else self.width) * kind.itemsize

    @property
    def _scale_span(self) -> tuple[int, int]:
        """(first byte in the scale, bytes): FP4 has a row for every row, FP8 is read with all tiles of its matrix."""
        if self.scale is None:
            return 0, 0
        tall, wide = self.scale.shape[-2:]
        row = wide * formats.DTYPES[self.scale.tag].itemsize
        if self.entry.tag in formats.FP4:
            return (self.matrix * tall + self.first) * row, self.rows * row
        return self.matrix * tall * row, tall * row

    @property
    def _matrix_rows(self) -> int:
        return self.entry.shape[-2] if len(self.entry.shape) > 1 else 1

    def read(self, shards: Shards, rows: slice | None = None) -> Raw:
        """The stored bytes, of all rows or of a run of them, checked.

        CheckpointError, naming tensor and file, for what cannot be read, is cut short or is no finite number.
        """
        start, stop, _ = (rows or slice(None)).indices(self.rows)
        at = (self.matrix * self._matrix_rows + self.first + start) * self._row_bytes
        wanted = [(self.entry, at, (stop - start) * self._row_bytes)]
        first = 0
        if self.scale is not None:
            begin, size = self._scale_span
            if self.entry.tag in formats.FP4:
                row = size // self.rows
                begin, size = begin + start * row, (stop - start) * row
            else:
                first = self.first + start
            wanted.append((self.scale, begin, size))
        got = [_typed(held, entry.tag) for held, (entry, *_) in zip(shards.read(wanted), wanted, strict=True)]
        scale = got[1].view(-1, self.scale.shape[-1]) if self.scale is not None else None
        if scale is not None and scale.dtype == torch.float8_e8m0fnu:
            scale = scale.view(torch.uint8)
        raw = Raw(got[0].view(stop - start, -1), scale, first)
        self._check(raw)
        return raw

    def _check(self, raw: Raw) -> None:
        """Refuse what `load_weights` refuses; without decoding where bytes tell."""
        at, scale = f"tensor '{self.entry.name}' in {self.entry.path}", raw.scale
        if scale is None:
            good = bool(raw.rows.sum().isfinite()) or bool(raw.rows.isfinite().all())
        else:
            assert self.scale is not None
            factors_at = f"tensor '{self.scale.name}' in {self.scale.path}"
            fp8 = raw.rows.dtype == torch.float8_e4m3fn
            good = scale.dtype == torch.uint8 and int(scale.max()) <= (_SAFE_FP8 if fp8 else _SAFE_FP4)
            if not good:
                factors = formats.scale_factors(scale)
                if not bool((factors.isfinite() & (factors >= 0)).all()):
                    raise CheckpointError(f"{factors_at} holds a scale that is NaN, infinite or negative")
                good = bool(formats.decode_rows(raw.rows, factors, raw.first).isfinite().all())
            elif fp8:
                good = not bool(((raw.rows.view(torch.uint8) & 0x7F) == 0x7F).any())
        if not good:
            raise CheckpointError(f"{at} holds a value that is NaN, infinite or too large")


def _typed(held: Tensor, tag: str) -> Tensor:
    """Bytes as numbers; moved first where they do not lie as numbers must."""
    kind = formats.DTYPES[tag]
    return (held if held.storage_offset() % kind.itemsize == 0 else held.clone()).view(kind)


class Shards:
    """Files whose headers were read, to be read by position from any thread. Nothing stays open between reads.

    Larger pieces are read directly (`O_DIRECT`), past the system's cache: that takes a quarter of the processor's time,
    and memory holds of the files what the caller holds and nothing else. Where a file system knows no direct reads, the
    system is asked to forget what it read. `cached` True reads through its cache instead.
    """

    def __init__(self, paths: Iterable[Path], *, cached: bool = False) -> None:
        """Notes what each file is now. CheckpointError for one that is not there."""
        self._cached = cached
        self._known: dict[Path, tuple[int, ...]] = {}
        for path in dict.fromkeys(paths):
            try:
                self._known[path] = _stamp(os.stat(path))
            except OSError as error:
                raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error

    def read(self, wanted: list[tuple[Entry, int, int]]) -> list[Tensor]:
        """The bytes (uint8) of every (entry, first byte within it, how many); CheckpointError names tensor and file.

        A piece that is read directly holds up to three pages of memory more than its bytes.
        """
        return [self._read(entry, start, size) for entry, start, size in wanted]

    def _read(self, entry: Entry, start: int, size: int) -> Tensor:
        assert start + size <= entry.nbytes, entry.name
        first = entry.offset + start
        direct = not self._cached and size >= _DIRECT
        low, high = (first // _PAGE * _PAGE, -(-(first + size) // _PAGE) * _PAGE) if direct else (first, first + size)
        room = torch.empty(high - low + (_PAGE if direct else 0), dtype=torch.uint8)
        block = room[-room.data_ptr() % _PAGE :][: high - low] if direct else room
        descriptor = self._open(entry, os.O_DIRECT if direct else 0)
        try:
            self._fill(descriptor, entry, block, low, need=first + size - low)
            if not self._cached and not direct:
                os.posix_fadvise(descriptor, low, size, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)
        return block[first - low : first - low + size]

    def check(self, entry: Entry) -> None:
        """CheckpointError, naming the tensor, unless its file is what it was."""
        os.close(self._open(entry, 0))

    def _open(self, entry: Entry, flag: int) -> int:
        try:
            descriptor = os.open(entry.path, os.O_RDONLY | os.O_CLOEXEC | flag)
        except OSError as error:
            if flag and error.errno == errno.EINVAL:
                return self._open(entry, 0)
            why = error.strerror or error
            raise CheckpointError(f"tensor '{entry.name}': cannot read {entry.path}: {why}") from error
        if _stamp(os.fstat(descriptor)) != self._known[entry.path]:
            os.close(descriptor)
            raise CheckpointError(f"tensor '{entry.name}': {entry.path} was changed since the model was loaded")
        return descriptor

    def _fill(self, descriptor: int, entry: Entry, block: Tensor, at: int, *, need: int) -> None:
        """Read from byte `at` of the file on until `need` bytes of the block are there."""
        done, room = 0, block.numpy().data
        while done < need:
            try:
                got = os.preadv(descriptor, [room[done:]], at + done)
            except OSError as error:
                why = error.strerror or error
                raise CheckpointError(f"tensor '{entry.name}': cannot read {entry.path}: {why}") from error
            done += got
            # A read that stops within a page has met the end of the file: a direct one cannot go on from there.
            if got == 0 or (done < need and done % _PAGE and not self._cached and block.numel() >= _DIRECT):
                raise CheckpointError(f"tensor '{entry.name}': {entry.path} is truncated, it ends at byte {at + done}")


def _stamp(found: os.stat_result) -> tuple[int, ...]:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
