"""Texts in a document."""

from __future__ import annotations

import hashlib

import numpy as np
import torch

from octavo.cache.document.record import Kind, Record, pack_record
from octavo.cache.document.sources import DocumentSource, SourceText, pack_sources, unpack_sources, unpack_text

TEXTS = [
    SourceText(name="a.txt", text="naïve 雪\r\n" * 500, first_token=1, tokens=900),
    SourceText(name="dir/ü b.txt", text="x", first_token=903, tokens=1),
]


def test_round_trip() -> None:
    ids = np.arange(904)
    fields, sections = pack_sources(TEXTS, ids)
    data = b"".join(pack_record(Kind.SOURCES, number=0, first=0, stop=0, sections=sections, fields=fields))
    record = Record(torch.frombuffer(bytearray(data), dtype=torch.uint8), 0)
    assert unpack_sources(record) == [DocumentSource.of(text) for text in TEXTS]
    assert [unpack_text(record, place) for place in range(2)] == [text.text for text in TEXTS]
    assert record.read("ids").tolist() == ids.tolist()
    assert len(data) < len(TEXTS[0].text.encode())  # compressed


def test_what_is_recorded_of_a_text() -> None:
    source = DocumentSource.of(TEXTS[0])
    data = TEXTS[0].text.encode()
    assert (source.name, source.first_token, source.tokens) == ("a.txt", 1, 900)
    assert (source.chars, source.nbytes) == (4500, len(data))
    assert source.sha256 == hashlib.sha256(data).hexdigest()
