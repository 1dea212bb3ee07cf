"""Cuts of a long text that leave its tokens as they are.

Covers: finding places where encoding the two sides apart gives the ids of encoding them together. Does not cover: the
encoding. Byte-level BPE merges only inside the pieces of the pre-tokenizer, so a cut is exact where the pre-tokenizer
cuts anyway. That is not assumed from a rule about newlines but tried, at every cut, on the text around it.
"""

import re
from collections.abc import Callable, Iterator

Split = Callable[[str], list[tuple[str, tuple[int, int]]]]

_CHUNK = 1 << 15  # characters of a piece: much beside the cost of trying a cut, little beside the library's memory
_WINDOW = 512  # characters looked at on each side of a cut
_TRIES = 8  # places tried of each kind before the next kind
_PLACES = (  # likely ones, best first
    re.compile(r"\n(?=[^\W_])"),  # a line that begins with a word
    re.compile(r"(?<=[^\W_])(?= [^\W\d_])"),  # a space between words
    re.compile(r"(?<=[^\w\s])(?=[^\W_])"),  # a mark before a word: scripts without spaces
)


def chunks(text: str, split: Split, size: int = _CHUNK) -> Iterator[str]:
    """Yield the pieces of `text` in order, of about `size` characters, or more where no cut was found to be exact.

    `split` is the pre-tokenizer: text to pieces with their character spans. An empty text has no piece. Exact for a
    pre-tokenizer that decides a border from at most 512 characters on either side; every regular expression in use
    looks at one or two.
    """
    start = 0
    while len(text) - start > size + _WINDOW:
        cut = _cut(text, start, start + size, split)
        yield text[start:cut]
        start = cut
    if start < len(text):
        yield text[start:]


def _cut(text: str, start: int, target: int, split: Split) -> int:
    """A proven cut soon after `target` (or the end of the text); never at or before `start`."""
    step = _WINDOW
    while target < len(text):
        stop = min(len(text), target + _WINDOW)
        for place in _PLACES:
            for tried, match in enumerate(place.finditer(text, target, stop)):
                if tried == _TRIES:
                    break
                if match.end() < stop and _is_exact(text, start, match.end(), split):
                    return match.end()
        target += step
        step *= 2  # a text without places costs a logarithmic number of tries, not one a window
    return len(text)


def _is_exact(text: str, start: int, cut: int, split: Split) -> bool:
    """True if splitting the surroundings whole gives the pieces of splitting both sides of `cut` apart."""
    left = text[max(start, cut - _WINDOW) : cut]
    right = text[cut : cut + _WINDOW]
    apart = split(left) + [(piece, (a + len(left), b + len(left))) for piece, (a, b) in split(right)]
    return split(left + right) == apart
