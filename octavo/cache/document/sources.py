"""The texts that a document was made from.

Covers: a SOURCES record's values: names, sha256, texts (compressed) and token ids. Does not cover: tokenizing, and the
way from tokens to characters (`octavo.engine.texts` computes it from the ids).
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from octavo.cache.document.record import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceText:
    """A text to be kept: its name and its tokens first_token .. first_token + tokens - 1 of the document."""

    name: str
    text: str
    first_token: int
    tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentSource:
    """A text in a document: as `SourceText`, its characters, and UTF-8 bytes with their sha256 (hex)."""

    name: str
    first_token: int
    tokens: int
    chars: int
    nbytes: int
    sha256: str

    @classmethod
    def of(cls, source: SourceText) -> DocumentSource:
        """What is recorded of a text."""
        data = source.text.encode()
        return cls(
            name=source.name,
            first_token=source.first_token,
            tokens=source.tokens,
            chars=len(source.text),
            nbytes=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
        )


def pack_sources(sources: Sequence[SourceText], ids: np.ndarray) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Fields and sections of a SOURCES record; `ids` [n] are all tokens that these texts add, BOS and gaps too."""
    sections = {"ids": torch.from_numpy(np.array(ids, dtype=np.int32))}
    for place, source in enumerate(sources):
        packed = zlib.compress(source.text.encode())
        sections[f"text.{place}"] = torch.from_numpy(np.frombuffer(packed, dtype=np.uint8).copy())
    return {"sources": [asdict(DocumentSource.of(source)) for source in sources]}, sections


def unpack_sources(record: Record) -> list[DocumentSource]:
    """The texts of a SOURCES record, without the texts themselves."""
    return [DocumentSource(**values) for values in record.fields["sources"]]


def unpack_text(record: Record, place: int) -> str:
    """The text number `place` of a SOURCES record."""
    return zlib.decompress(record.read(f"text.{place}").numpy().tobytes()).decode()
