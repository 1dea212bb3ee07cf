"""Where words begin and end among tokens.

Covers: words of ASCII letters and digits and of the characters that UTF-8 writes in two bytes from U+00C0 on (Latin,
Greek, Cyrillic and their neighbours); a character whose bytes are spread over tokens is never parted. Anything else
borders on what stands beside it: signs, and the characters of languages that write no spaces.
"""

from __future__ import annotations

import numpy as np

from octavo.text.tokenizer import Tokenizer

_LETTERS = range(0xC3, 0xE0)  # first bytes of two-byte characters from U+00C0 on
_LATER = bytes(range(0x80, 0xC0))  # bytes of a character behind its first


class WordBorders:
    """For every id of a tokenizer, how its text begins and ends."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        texts = [tokenizer.token_bytes(token) for token in range(tokenizer.vocab_size)]
        self._goes_on = np.array([text[:1] != b"" and text[0] in _LATER for text in texts])
        self._begins = np.array([_of_a_letter(text[:1]) for text in texts])
        firsts = [text.rstrip(_LATER)[-1:] for text in texts]  # the first byte of each text's last character
        self._ends = np.array([_of_a_letter(first) for first in firsts])
        self._tail = np.array([first == b"" for first in firsts])  # texts that hold the end of a character at most

    def inside(self, ids: np.ndarray, places: np.ndarray) -> np.ndarray:
        """Bool [n] for ids [T] and places [n] in 0 .. T: whether a word or a character goes on from the token before to
        the token at the place; never at either end."""
        cut = (places > 0) & (places < len(ids))
        at = places[cut]
        last = at - 1  # where the last character before each place began: at most three tokens further back
        for _ in range(3):
            last = last - (self._tail[ids[last]] & (last > 0))
        cut[cut] = self._goes_on[ids[at]] | (self._ends[ids[last]] & self._begins[ids[at]])
        return cut


def _of_a_letter(first: bytes) -> bool:
    return first.isalnum() or (first != b"" and first[0] in _LETTERS)
