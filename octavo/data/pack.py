"""Packed training tokens: a folder that is small to carry and opens as one memory-mapped array of uint16.

Covers: tokenising documents, the shard files, the table of documents, unpacking with checks, slices drawn by seed.
Does not cover: which documents are packed (octavo.data.mix), batches, special tokens: a document holds text only.

A folder holds `pack.json` (format, vocabulary, tokenizer fingerprint, shards with sha256), `documents.json.xz`
(source, id, first token, end, bytes of each document) and `tokens-NN.xz` (little-endian uint16, xz). Opening a pack
writes `<folder>-unpacked/tokens-<sum>.u16` once, outside the folder so that it stays small to carry; that needs numpy
and the standard library only.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from octavo.config.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from octavo.data.mix import Chosen

FORMAT = 1
SHARD_TOKENS = 4_000_000
_BATCH_DOCUMENTS = 64
_TOKEN = np.dtype("<u2")
# Tokens are two bytes wide, so the coder keeps separate statistics for even and odd bytes.
_FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 6, "lc": 0, "lp": 1, "pb": 1}]


@dataclass(frozen=True, kw_only=True)
class PackedDocument:
    """One document: tokens `start` up to `end` of the pack, `text_bytes` UTF-8 bytes."""

    source: str
    id: str
    start: int
    end: int
    text_bytes: int


@dataclass(frozen=True, kw_only=True)
class PackSummary:
    """What a pack holds and what it weighs; `packed_bytes` counts every file that travels."""

    documents: int
    tokens: int
    text_bytes: int
    packed_bytes: int
    tokens_by_source: dict[str, int]


def tokenizer_fingerprint(tokenizer: Tokenizer) -> str:
    """Hex sha256 of the tokenizer's canonical JSON (keys sorted, no spaces)."""
    canonical = json.dumps(json.loads(tokenizer.to_str()), sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _encode(documents: Iterable[Chosen], tokenizer: Tokenizer) -> tuple[np.ndarray, list[PackedDocument]]:
    """Tokens of all documents in order, uint16 [T], and the table of documents. Special tokens are never parsed."""
    tokenizer.encode_special_tokens = True
    parts: list[np.ndarray] = []
    table: list[PackedDocument] = []
    end = 0
    batch: list[Chosen] = []

    def flush() -> None:
        nonlocal end
        for document, encoding in zip(batch, tokenizer.encode_batch_fast([d.text for d in batch]), strict=True):
            ids = np.asarray(encoding.ids, dtype=_TOKEN)
            size = len(document.text.encode())
            table.append(
                PackedDocument(source=document.source, id=document.id, start=end, end=end + len(ids), text_bytes=size)
            )
            parts.append(ids)
            end += len(ids)
        batch.clear()

    for document in documents:
        batch.append(document)
        if len(batch) == _BATCH_DOCUMENTS:
            flush()
    flush()
    return np.concatenate(parts) if parts else np.empty(0, dtype=_TOKEN), table


def write_pack(documents: Iterable[Chosen], *, tokenizer: Tokenizer, folder: Path) -> PackSummary:
    """Tokenise `documents` and write them packed into `folder` (created; files of an older pack are replaced).

    Raises ConfigError if the vocabulary does not fit 16 bits or there is no document.
    """
    vocab_size = tokenizer.get_vocab_size()
    if vocab_size > 1 << 16:
        raise ConfigError(f"vocabulary of {vocab_size} does not fit the 65536 values of a packed token")
    tokens, table = _encode(documents, tokenizer)
    if not table:
        raise ConfigError("a pack needs at least one document, got none")
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("tokens-*.xz"):
        old.unlink()
    shards = []
    for number, start in enumerate(range(0, len(tokens), SHARD_TOKENS)):
        raw = tokens[start : start + SHARD_TOKENS].tobytes()
        name = f"tokens-{number:02d}.xz"
        (folder / name).write_bytes(lzma.compress(raw, filters=_FILTERS))
        shards.append({"file": name, "tokens": len(raw) // 2, "sha256": hashlib.sha256(raw).hexdigest()})
    rows = json.dumps([asdict(row) for row in table], ensure_ascii=False, separators=(",", ":")).encode()
    (folder / "documents.json.xz").write_bytes(lzma.compress(rows))
    head = {
        "format": FORMAT, "vocab_size": vocab_size, "tokenizer": tokenizer_fingerprint(tokenizer),
        "tokens": len(tokens), "documents": len(table), "shards": shards,
    }  # fmt: skip
    (folder / "pack.json").write_text(json.dumps(head, indent=1) + "\n", "utf-8")
    by_source: dict[str, int] = {}
    for row in table:
        by_source[row.source] = by_source.get(row.source, 0) + row.end - row.start
    return PackSummary(
        documents=len(table), tokens=len(tokens), text_bytes=sum(row.text_bytes for row in table),
        packed_bytes=sum(path.stat().st_size for path in folder.iterdir() if path.is_file()),
        tokens_by_source=by_source,
    )  # fmt: skip


class PackedText:
    """A pack opened for reading. `tokens` is a read-only uint16 [T] memory map, `documents` says where each one lies.

    The first opening unpacks next to the folder and checks every sha256; later ones only map the file. Raises
    UsageError if the folder is no pack, ConfigError if it is damaged or of another format.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        head_file = self.folder / "pack.json"
        if not head_file.exists():
            raise UsageError(f"{str(self.folder)!r} is not a pack: it has no pack.json")
        self.head: dict = json.loads(head_file.read_text("utf-8"))
        if self.head.get("format") != FORMAT:
            raise ConfigError(
                f"pack {str(self.folder)!r} has format {self.head.get('format')!r}, only {FORMAT} is read"
            )
        rows = json.loads(lzma.decompress((self.folder / "documents.json.xz").read_bytes()))
        self.documents: tuple[PackedDocument, ...] = tuple(PackedDocument(**row) for row in rows)
        self.tokens: np.ndarray = np.memmap(self.unpack(), dtype=_TOKEN, mode="r")

    @property
    def vocab_size(self) -> int:
        """Ids are below this."""
        return self.head["vocab_size"]

    @property
    def fingerprint(self) -> str:
        """sha256 of the tokenizer that made the tokens, as `tokenizer_fingerprint` counts it."""
        return self.head["tokenizer"]

    @property
    def unpacked_folder(self) -> Path:
        """Where the tokens lie unpacked: a sibling of the pack."""
        folder = self.folder.resolve()
        return folder.with_name(folder.name + "-unpacked")

    def unpack(self) -> Path:
        """Path of the unpacked tokens, written now if missing or not of this pack (by name of its shards' sums)."""
        sums = "".join(shard["sha256"] for shard in self.head["shards"])
        name = f"tokens-{hashlib.sha256(sums.encode()).hexdigest()[:16]}.u16"
        target = self.unpacked_folder / name
        if target.exists():
            return target
        target.parent.mkdir(exist_ok=True)
        partial = target.with_suffix(f".{os.getpid()}.partial")
        try:
            with partial.open("wb") as out:
                for shard in self.head["shards"]:
                    out.write(self._shard(shard))
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)
        return target

    def _shard(self, shard: dict) -> bytes:
        path = self.folder / shard["file"]
        try:
            raw = lzma.decompress(path.read_bytes())
        except (OSError, lzma.LZMAError) as error:
            raise ConfigError(f"shard {str(path)!r} cannot be unpacked: {error}") from error
        if hashlib.sha256(raw).hexdigest() != shard["sha256"]:
            raise ConfigError(f"shard {str(path)!r} has another sha256 than pack.json says")
        return raw

    @cached_property
    def sources(self) -> tuple[str, ...]:
        """Names of the sources in order of first appearance."""
        return tuple(dict.fromkeys(document.source for document in self.documents))

    def document_tokens(self, index: int) -> np.ndarray:
        """uint16 [length]: tokens of one document."""
        document = self.documents[index]
        return self.tokens[document.start : document.end]

    @cached_property
    def _ranges(self) -> dict[str | None, tuple[np.ndarray, np.ndarray]]:
        """Starts and lengths of documents (int64 [n] each), by source; None is all of them."""
        table: dict[str | None, tuple[np.ndarray, np.ndarray]] = {}
        for source in (None, *self.sources):
            rows = [d for d in self.documents if source is None or d.source == source]
            starts = np.array([d.start for d in rows], dtype=np.int64)
            table[source] = starts, np.array([d.end for d in rows], dtype=np.int64) - starts
        return table

    def slice(self, length: int, *, seed: int, source: str | None = None) -> np.ndarray:
        """uint16 [length]: a run of tokens inside one document, the same for the same arguments.

        Every place where a run fits is equally likely. Raises UsageError if no document (of `source`) is long enough.
        """
        if source is not None and source not in self.sources:
            raise UsageError(f"pack has no source {source!r}; it has {', '.join(self.sources)}")
        starts, lengths = self._ranges[source]
        places = np.maximum(lengths - length + 1, 0)
        total = int(places.sum())
        if length <= 0 or total == 0:
            raise UsageError(f"no document of source {source or 'any'!r} holds a slice of {length} tokens")
        draw = int(np.random.default_rng(seed).integers(total))
        ends = np.cumsum(places)
        index = int(np.searchsorted(ends, draw, side="right"))
        first = int(starts[index]) + draw - int(ends[index] - places[index])
        return self.tokens[first : first + length]
