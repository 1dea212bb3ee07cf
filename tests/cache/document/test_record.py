"""Records as bytes: what goes in comes out, in place, and no byte can be altered unseen."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo.cache.document.header import ALIGN
from octavo.cache.document.record import Kind, Record, RecordError, pack_record, parse_prefix

SECTIONS = {
    "rows": torch.arange(0, 200, dtype=torch.uint8).view(50, 4),
    "none": torch.empty(0, 7),
    "ids": torch.tensor([5, -3, 2**31 - 1], dtype=torch.int32),
    "half": torch.randn(3, 5).to(torch.bfloat16),
    "scores": torch.randn(2, 3, 4),
    "places": torch.tensor([[2**40]], dtype=torch.int64),
}


def joined(**changes: object) -> bytes:
    fields = {"number": 7, "first": 4096, "stop": 8192, "sections": SECTIONS, "fields": {"name": "ä"}} | changes
    return b"".join(pack_record(Kind.PAGES, **fields))  # type: ignore[arg-type]


def as_tensor(data: bytes) -> torch.Tensor:
    return torch.frombuffer(bytearray(data), dtype=torch.uint8)


def test_round_trip_in_place() -> None:
    before = bytes(2 * ALIGN)
    data = as_tensor(before + joined(resumes=True) + b"more")
    record = Record(data, len(before))
    prefix = record.prefix
    assert (prefix.kind, prefix.resumes, prefix.number) == (Kind.PAGES, True, 7)
    assert (prefix.first, prefix.stop, prefix.nbytes) == (4096, 8192, len(data) - len(before) - 4)
    assert prefix.tokens == "tokens 4,096 to 8,192"
    assert record.fields == {"name": "ä"}
    for name, values in SECTIONS.items():
        found = record.read(name)
        assert (found.dtype, found.shape) == (values.dtype, values.shape)
        assert torch.equal(found, values)
        if values.numel():
            assert (found.data_ptr() - data.data_ptr()) % ALIGN == 0
            assert found.untyped_storage().data_ptr() == data.untyped_storage().data_ptr()
    record.verify()


def test_tensors_that_are_not_contiguous_are_stored_as_they_look() -> None:
    values = torch.arange(12.0).view(3, 4).T
    record = Record(as_tensor(joined(sections={"x": values})), 0)
    assert torch.equal(record.read("x"), values)


@settings(max_examples=30)
@given(count=st.integers(0, 40), size=st.integers(0, 3000))
def test_the_table_finds_its_own_length(count: int, size: int) -> None:
    """Offsets are decimal numbers in the table that they come after: any mixture of digits settles."""
    sections = {str(i): torch.full((size * i,), i, dtype=torch.uint8) for i in range(count)}
    record = Record(as_tensor(joined(sections=sections)), 0)
    record.verify()
    assert all(torch.equal(record.read(name), values) for name, values in sections.items())


def test_every_altered_byte_is_seen() -> None:
    data = as_tensor(joined())
    for place in range(len(data)):
        data[place] ^= 4
        with pytest.raises(RecordError, match="altered"):
            Record(data, 0).verify()
        data[place] ^= 4
    Record(data, 0).verify()


def test_an_altered_section_is_named_and_leaves_the_others_readable() -> None:
    data = as_tensor(joined())
    section = Record(data, 0).sections["ids"]
    data[section.offset + 2] ^= 1
    record = Record(data, 0)
    assert torch.equal(record.read("rows"), SECTIONS["rows"])
    place = rf"\(bytes {section.offset} to {section.offset + 11}\)"
    with pytest.raises(RecordError, match=f"section 'ids' is altered {place}"):
        record.read("ids")


def test_a_missing_section_is_named() -> None:
    with pytest.raises(RecordError, match="no section 'other'"):
        Record(as_tensor(joined()), 0).read("other")


def test_a_record_beyond_the_end_is_refused() -> None:
    data = as_tensor(joined())
    with pytest.raises(RecordError, match="prefix"):
        Record(data[:-1], 0)


@pytest.mark.parametrize("data", [b"", bytes(64), b"\x89OCTREC\n", b"\x89OCTREC\n" + bytes(56), b"x" * 64])
def test_other_bytes_are_no_prefix(data: bytes) -> None:
    assert parse_prefix(data) is None
