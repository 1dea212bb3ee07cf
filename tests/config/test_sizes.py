"""Sizes in bytes as people write them."""

import pytest

from octavo.config.errors import UsageError
from octavo.config.sizes import parse_bytes


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ("8GB", 8_000_000_000),
        ("8 gib", 8 * 2**30),
        ("1.5MB", 1_500_000),
        (" 512MiB ", 512 * 2**20),
        ("7B", 7),
        ("2TB", 2_000_000_000_000),
        (4096, 4096),
    ],
)
def test_sizes_are_read(written: int | str, found: int) -> None:
    assert parse_bytes(written, name="memory") == found


@pytest.mark.parametrize("wrong", ["8", "8G", "GB", "-1GB", "8 GB RAM", "", "1e9B", "0x8B", True, None, 1.5])
def test_other_text_is_refused_by_name(wrong: object) -> None:
    with pytest.raises(UsageError, match=r"memory is .*; it must be a size such as 8GB or 512MiB"):
        parse_bytes(wrong, name="memory")  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("small", [0, -5, "0GB", "0.1B"])
def test_nothing_is_no_size(small: int | str) -> None:
    with pytest.raises(UsageError, match="memory is .*; it must be at least 1 byte"):
        parse_bytes(small, name="memory")
