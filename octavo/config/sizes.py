"""Sizes in bytes as people write them. Covers: reading `8GB` or `512 MiB`. Not here: printing sizes."""

import re

from octavo.config.errors import UsageError

_UNITS = {"B": 1} | {
    f"{prefix}{middle}B": base**power
    for power, prefix in enumerate("KMGT", start=1)
    for middle, base in (("", 1000), ("i", 1024))
}
_WRITTEN = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]+)")


def parse_bytes(value: int | str, *, name: str) -> int:
    """Bytes of `value`: a whole number, or text such as `8GB` (powers of 1000) or `512 MiB` (powers of 1024).

    UsageError, naming `name`, for anything else and for less than one byte.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        found = value
    else:
        written = _WRITTEN.fullmatch(value.strip()) if isinstance(value, str) else None
        unit = None if written is None else {key.upper(): size for key, size in _UNITS.items()}.get(written[2].upper())
        if written is None or unit is None:
            raise UsageError(f"{name} is {value!r}; it must be a size such as 8GB or 512MiB, or a number of bytes")
        found = int(float(written[1]) * unit)
    if found < 1:
        raise UsageError(f"{name} is {value!r}; it must be at least 1 byte")
    return found
