"""Right or wrong, and how sure: exact match after normalising, the part of a list that is right, Wilson's interval."""

from __future__ import annotations

import math
import re

_SPACES = re.compile(r"\s+")
Z_95 = 1.959963984540054


def normalised(text: str) -> str:
    """Single spaces, small letters, no punctuation or quotes at the ends."""
    return _SPACES.sub(" ", text).strip().lower().strip(".,;:!?\"'“”‘’_*- ")


def is_right(given: str, expected: str) -> bool:
    """The answer is the expected one but for spaces, case and punctuation at its ends."""
    return normalised(given) == normalised(expected)


def part_right(given: str, expected: str) -> float:
    """F1 of two lists whose items are parted by commas, as sets: 1 for the same items in any order, 0 for none."""
    found, wanted = ({normalised(item) for item in text.split(",")} for text in (given, expected))
    return 2 * len(found & wanted) / (len(found) + len(wanted))


def wilson(right: float, total: int, *, z: float = Z_95) -> tuple[float, float]:
    """Wilson's score interval of a share (E. B. Wilson, 1927), by default at 95 %; (0, 1) for no observations.

    `right` may be a sum of chances between 0 and 1, for which the interval is on the wide side.
    """
    if total == 0:
        return 0.0, 1.0
    share = right / total
    spread = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    middle, scale = share + z * z / (2 * total), 1 + z * z / total
    return max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale)
