"""The vocabulary folded for Engram: token ids that read alike share one id.

Covers: the map V -> V' of engram.md 2 (Engram, arXiv 2601.07372; the whitespace rules and the branch for part
characters are in its demo code). Does not cover: hashing. V' bounds the hash multipliers, so a checkpoint must state
it and a loader must compare.
"""

import numpy as np
from numpy.typing import NDArray
from tokenizers import Regex, normalizers

from octavo.text.tokenizer import Tokenizer

_SENTINEL = "\ue000"  # private use: keeps a string that is one space through the stripping of both ends
_PART = "\ufffd"  # what decoding gives for bytes that are not a whole character


def compress_map(tokenizer: Tokenizer) -> tuple[NDArray[np.int32], int]:
    """Return `(map_V, size)`: int32 [vocab_size] of compressed ids, and their number V'.

    Ids are given in the order in which a key first appears. The key of an id that decodes to whole characters is its
    text without case, accents, compatibility forms and surrounding space (or the bare text if nothing would be left);
    of any other id, its vocabulary piece. Added tokens take part. Deterministic for a tokenizer file.
    """
    normalise = _normaliser().normalize_str
    of_key: dict[str, int] = {}
    map_V = np.empty(tokenizer.vocab_size, dtype=np.int32)
    for token in range(tokenizer.vocab_size):
        text = tokenizer.decode([token])
        key = tokenizer.piece(token) if _PART in text else normalise(text) or text
        map_V[token] = of_key.setdefault(key, len(of_key))
    return map_V, len(of_key)


def _normaliser() -> normalizers.Sequence:
    return normalizers.Sequence(
        [
            normalizers.NFKC(),
            normalizers.NFD(),
            normalizers.StripAccents(),
            normalizers.Lowercase(),
            normalizers.Replace(Regex(r"[ \t\r\n]+"), " "),
            normalizers.Replace(Regex(r"^ $"), _SENTINEL),
            normalizers.Strip(),
            normalizers.Replace(_SENTINEL, " "),
        ]
    )
