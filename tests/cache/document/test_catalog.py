"""Which records count: the chain of pages, the index against the walk, damage between records."""

from __future__ import annotations

from pathlib import Path

import pytest

from octavo.cache.document.catalog import Catalog, Entry, read_catalog
from octavo.cache.document.reader import load_file
from octavo.cache.document.record import Kind
from octavo.config.errors import DocumentError
from tests.support.documents import flip, write_document

PATH = Path("book.octavo")


def chain(*parts: tuple[Kind, int, int, int]) -> Catalog:
    """A catalog of records of 64 bytes, one after the other from byte 128: kind, first, stop, resumes."""
    catalog = Catalog(128, PATH)
    for number, part in enumerate(parts):
        catalog.add(Entry(128 + 64 * number, 64, *part))
    return catalog


def test_nothing() -> None:
    catalog = chain()
    assert (catalog.length, catalog.paged, catalog.end, catalog.tip, catalog.last) == (0, 0, 128, 128, None)


def test_pages_count_once_tails_follow() -> None:
    catalog = chain((Kind.SOURCES, 0, 0, 0), (Kind.PAGES, 0, 4096, 0))
    assert (catalog.length, catalog.reached, catalog.end, catalog.tip, catalog.number) == (0, 4096, 192, 256, 2)
    catalog.add(Entry(256, 64, Kind.PAGES, 4096, 8192, 1))
    assert (catalog.length, catalog.reached, catalog.end, catalog.number) == (8192, 8192, 320, 3)
    assert [entry.stop for entry in catalog.pages] == [4096, 8192]


def test_a_tail_continues_the_pages_and_later_pages_void_it() -> None:
    catalog = chain((Kind.PAGES, 0, 4096, 1), (Kind.TAIL, 4096, 5000, 1))
    assert (catalog.length, catalog.paged) == (5000, 4096)
    catalog.add(Entry(256, 64, Kind.INDEX, 0, 0, 0))
    assert catalog.closed
    catalog.add(Entry(320, 64, Kind.PAGES, 4096, 8192, 1))
    assert (catalog.length, catalog.tail, catalog.closed) == (8192, None, False)


def test_a_later_tail_replaces_an_earlier_one() -> None:
    catalog = chain((Kind.TAIL, 0, 100, 1), (Kind.TAIL, 0, 200, 1))
    assert catalog.length == 200
    assert catalog.without_last().length == 100
    assert catalog.without_last().without_last().last is None


@pytest.mark.parametrize("parts", [
    [(Kind.PAGES, 4096, 8192, 1)],
    [(Kind.PAGES, 0, 4096, 1), (Kind.PAGES, 8192, 12288, 1)],
    [(Kind.PAGES, 0, 4096, 1), (Kind.TAIL, 0, 5000, 1)],
    [(Kind.PAGES, 0, 4096, 1), (Kind.PAGES, 4096, 1024, 1)],
])  # fmt: skip
def test_tokens_must_follow(parts: list) -> None:
    with pytest.raises(DocumentError, match="must follow"):
        chain(*parts)


def test_index_and_walk_find_the_same(tmp_path: Path) -> None:
    path = tmp_path / "a.octavo"
    write_document(path, 9000)
    data, header, indexed = load_file(path)
    start = len(header.to_bytes())
    walked = read_catalog(data[: indexed.records[-1].offset], start, path)
    assert indexed.closed
    assert not walked.closed
    assert walked.records == indexed.records[:-1]
    assert [Kind(entry.kind).name for entry in walked.records] == ["SOURCES", "PAGES", "PAGES", "TAIL"]
    assert (walked.length, walked.end) == (9000, indexed.records[-1].offset)


def test_an_altered_index_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.octavo"
    write_document(path, 5000)
    _, _, catalog = load_file(path)
    flip(path, catalog.records[-1].offset + 300)
    with pytest.raises(DocumentError, match=f"the index at byte {catalog.records[-1].offset} is damaged"):
        load_file(path)


def test_an_altered_end_is_made_good_by_the_walk(tmp_path: Path) -> None:
    path = tmp_path / "a.octavo"
    write_document(path, 5000)
    flip(path, path.stat().st_size - 60)
    assert load_file(path)[2].length == 5000


@pytest.mark.parametrize("number", [0, 1, 2])
def test_an_altered_prefix_before_whole_records_is_an_error(tmp_path: Path, number: int) -> None:
    path = tmp_path / "a.octavo"
    write_document(path, 9000, close=False)
    entry = load_file(path)[2].records[number]
    flip(path, entry.offset + 20)
    with pytest.raises(DocumentError, match=f"record {number} at byte {entry.offset} is altered"):
        load_file(path)


def test_zeros_or_scraps_at_the_end_are_an_unfinished_write(tmp_path: Path) -> None:
    path = tmp_path / "a.octavo"
    write_document(path, 5000, close=False)
    whole = path.read_bytes()
    for scrap in (bytes(64), bytes(5000), b"\x89OCTREC\n" + bytes(100), b"x" * 63):
        path.write_bytes(whole + scrap)
        catalog = load_file(path)[2]
        assert (catalog.length, catalog.end) == (5000, len(whole))
