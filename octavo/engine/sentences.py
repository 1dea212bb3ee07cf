"""Where sentences begin and end, well enough to quote a place.

Covers: widening a span of characters to the borders of its sentence, else of its line, else of a word. Does not cover:
grammar; it is a rule on punctuation and white space. Loads no torch.
"""

from __future__ import annotations

import re

_END = re.compile(r"""[.!?…]["'”’»)\]*_]*(?=\s)|\n[ \t\r]*(?=\n)""")
_GAP = re.compile(r"\s*")
_WORD = re.compile(r"\S")
_ABBREVIATION = re.compile(r"(?:^|[\s(\"“‘'])(?:[A-Z]|Mr|Mrs|Ms|Dr|St|Prof|Rev|Sr|Jr|vs|etc|No|Vol|cf|i\.e|e\.g)\.$")


def sentence_around(text: str, start: int, end: int, *, reach: int) -> tuple[int, int]:
    """Widen characters start .. end - 1 of `text` to whole sentences, by at most `reach` characters on each side.

    A sentence ends at . ! ? or … before white space, or at a blank line. Where no sentence border lies within reach,
    the nearest line border is taken, else the border of a word. White space at both ends is left out; of white space
    alone the sentence behind it is taken, else the one before it, and itself only where neither is within reach.
    """
    low, high = max(0, start - reach), min(len(text), end + reach)
    if text[start:end].isspace():
        behind, before = _WORD.search(text, end, high), text[low:start].rstrip()
        if behind is None and not before:
            return start, end
        start = low + len(before) - 1 if behind is None else behind.start()
        end = start + 1
    begins, ends = _borders(text, low, high)
    begins = [0, *begins] if low == 0 else begins
    ends = [*ends, len(text)] if high == len(text) else ends
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    left = max((place for place in begins if place <= start), default=None)
    right = min((place for place in ends if place >= end), default=None)
    left = _line_or_word_start(text, low, start) if left is None else left
    right = _line_or_word_end(text, end, high) if right is None else right
    while left < start and text[left].isspace():
        left += 1
    while right > end and text[right - 1].isspace():
        right -= 1
    return left, right


def _borders(text: str, low: int, high: int) -> tuple[list[int], list[int]]:
    """Places where a sentence begins, and where one ends, between `low` and `high`."""
    begins, ends = [], []
    for match in _END.finditer(text, low, min(len(text), high + 1)):
        gap = _GAP.match(text, match.end())
        after = gap.end() if gap is not None else match.end()
        if match[0][0] != "\n":
            if _ABBREVIATION.search(text, max(low, match.start() - 8), match.start() + 1):
                continue
            if text[after : after + 1].islower() and text.count("\n", match.end(), after) < 2:
                continue
        begins.append(after)
        ends.append(match.end())
    return begins, ends


def _line_or_word_start(text: str, low: int, start: int) -> int:
    line = text.rfind("\n", low, start)
    if line >= 0:
        return line + 1
    word = re.search(r"\s", text[low:start])
    return start if word is None else low + word.end()


def _line_or_word_end(text: str, end: int, high: int) -> int:
    line = text.find("\n", end, high)
    if line >= 0:
        return line
    word = max((match.start() for match in re.finditer(r"\s", text[end:high])), default=None)
    return end if word is None else end + word
