"""Token ids to text as they arrive.

Covers: holding back the bytes of an unfinished character. Does not cover: stop strings (engine) and markers
(`parser`), which work on the text that comes out here.
"""

import codecs
from collections.abc import Iterable

from octavo.text.tokenizer import Tokenizer


class Detokenizer:
    """Text of one growing sequence: what `push` and `finish` return, joined, is what `Tokenizer.decode` gives."""

    def __init__(self, tokenizer: Tokenizer, skip: Iterable[int] = ()) -> None:
        """`skip`: ids that have no text here, for example BOS and EOS."""
        self._tokenizer = tokenizer
        self._skip = frozenset(skip)
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, ids: Iterable[int]) -> str:
        """The characters that `ids` complete, possibly none. Raises TextError for an id outside the vocabulary.

        Bytes that can no longer become a character are given out as U+FFFD at once.
        """
        return "".join(
            self._decoder.decode(self._tokenizer.token_bytes(token)) for token in ids if token not in self._skip
        )

    def finish(self) -> str:
        """End the sequence: U+FFFD if it stopped inside a character, else nothing. The object is then as new."""
        rest = self._decoder.decode(b"", final=True)
        self._decoder.reset()
        return rest

    @property
    def pending(self) -> bool:
        """True while bytes of an unfinished character are held back."""
        return bool(self._decoder.getstate()[0])
