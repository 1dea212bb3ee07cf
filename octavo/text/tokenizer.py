"""Text to token ids and back, from a `tokenizer.json`.

Covers: byte-level BPE files (the official DeepSeek-V4 file as it is, and ours), user text kept apart from control
tokens, character offsets, exact encoding of long texts piece by piece. Does not cover: training a vocabulary, chat
layout (`chat`), streaming (`detokenizer`). No id is ever added by itself: a caller that wants BOS writes it.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path

import tokenizers
from tokenizers import Encoding

from octavo.config.errors import TextError
from octavo.text.chunks import chunks
from octavo.text.plain import check_unicode
from octavo.text.special import Special

_BATCH = 8  # pieces handed to the library at a time: bounds its memory, and lets it use several cores


class Tokenizer:
    """A loaded vocabulary. Build it with `load`; it never changes afterwards and may be shared between threads."""

    def __init__(self, source: str) -> None:
        """`source`: the content of a tokenizer.json. Raises TextError unless it is a byte-level BPE."""
        try:
            self._document = json.loads(source)
            self._full = tokenizers.Tokenizer.from_str(source)
        except Exception as error:  # the library raises bare Exception for every fault of the file
            raise TextError(f"tokenizer.json cannot be read: {error}") from None
        _require_byte_level(self._document)
        self._full.no_truncation()
        self._full.no_padding()
        self._plain = _without_added_tokens(self._full)
        self._added = {token["content"]: int(token["id"]) for token in self._document.get("added_tokens") or []}
        self._can_cut = self._plain.pre_tokenizer is not None and not _changes_text(self._document.get("normalizer"))

    @classmethod
    def load(cls, path: str | Path) -> "Tokenizer":
        """Read `path`, a tokenizer.json or a folder that holds one. TextError names what is missing or wrong."""
        file = Path(path)
        if file.is_dir():
            file = file / "tokenizer.json"
        try:
            return cls(file.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise TextError(f"{file}: cannot read the tokenizer: {error}") from None
        except TextError as error:
            raise TextError(f"{file}: {error}") from None

    def encode(self, text: str) -> list[int]:
        """Ids of `text`; spellings of control tokens in it become ordinary pieces. TextError for a lone surrogate."""
        ids: list[int] = []
        for batch in self._batches(text):
            for encoding in self._plain.encode_batch_fast(batch, add_special_tokens=False):
                ids.extend(encoding.ids)
        return ids

    def encode_with_offsets(self, text: str) -> tuple[list[int], list[int]]:
        """Ids as `encode` gives them, and for each the index of the character that its first byte belongs to."""
        ids: list[int] = []
        starts: list[int] = []
        base = 0
        for batch in self._batches(text):
            for piece, encoding in zip(batch, self._plain.encode_batch(batch, add_special_tokens=False), strict=True):
                ids.extend(encoding.ids)
                starts.extend([base + start for start, _ in encoding.offsets])
                base += len(piece)
        return ids, starts

    def encode_special(self, text: str) -> list[int]:
        """Ids of trusted text: spellings of control tokens become those tokens. Never for what a user wrote."""
        check_unicode(text)
        encoding: Encoding = self._full.encode(text, add_special_tokens=False)
        return encoding.ids

    def decode(self, ids: Iterable[int]) -> str:
        """Text of `ids`, control tokens spelled out; U+FFFD for bytes that are no UTF-8. TextError: id out of range."""
        return b"".join(map(self.token_bytes, ids)).decode("utf-8", errors="replace")

    def token_bytes(self, token: int) -> bytes:
        """The bytes that one id stands for: possibly part of a character. TextError: id out of range."""
        if not 0 <= token < self.vocab_size:
            raise TextError(f"token id {token} is outside the vocabulary of {self.vocab_size}")
        return self._bytes[token]

    def piece(self, token: int) -> str:
        """The entry of one id as the vocabulary spells it, in the byte-level alphabet. TextError: no such entry."""
        found = self._full.id_to_token(token) if 0 <= token < self.vocab_size else None
        if found is None:
            raise TextError(f"token id {token} has no entry in the vocabulary of {self.vocab_size}")
        return found

    def special(self, name: str) -> int:
        """Id of a control token, by its spelling or by its name in `Special` ("user"). TextError: not there."""
        spelling = Special[name.upper()].value if name.upper() in Special.__members__ else str(name)
        if spelling not in self._added:
            raise TextError(f"the tokenizer has no control token {spelling!r}")
        return self._added[spelling]

    @cached_property
    def vocab_size(self) -> int:
        """Highest id plus one, added tokens included: the number of embedding rows that a model needs."""
        return max(self._full.get_vocab(with_added_tokens=True).values()) + 1

    @cached_property
    def fingerprint(self) -> str:
        """sha256 (hex) of the tokenizer.json with sorted keys and no spaces: equal content, equal fingerprint."""
        canonical = json.dumps(self._document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(canonical.encode("utf-8", errors="surrogatepass")).hexdigest()

    @cached_property
    def _bytes(self) -> list[bytes]:
        """Bytes of every id; an id without an entry has none."""
        byte_of = _byte_of_character()
        table = [b""] * self.vocab_size
        for piece, token in self._full.get_vocab(with_added_tokens=False).items():
            table[token] = bytes(map(byte_of.__getitem__, piece)) if byte_of.keys() >= set(piece) else piece.encode()
        for spelling, token in self._added.items():
            table[token] = spelling.encode()
        return table

    def _batches(self, text: str) -> Iterator[Sequence[str]]:
        check_unicode(text)
        if not self._can_cut:
            yield [text]
            return
        batch: list[str] = []
        for piece in chunks(text, self._plain.pre_tokenizer.pre_tokenize_str):
            batch.append(piece)
            if len(batch) == _BATCH:
                yield batch
                batch = []
        if batch:
            yield batch


def _without_added_tokens(full: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    """The same vocabulary and splitting, knowing no control token and cutting no offset."""
    plain = tokenizers.Tokenizer(full.model)
    if full.normalizer is not None:
        plain.normalizer = full.normalizer
    if full.pre_tokenizer is not None:
        plain.pre_tokenizer = full.pre_tokenizer
    return plain


def _require_byte_level(document: dict) -> None:
    model = (document.get("model") or {}).get("type")
    decoder = (document.get("decoder") or {}).get("type")
    if model != "BPE" or decoder != "ByteLevel":
        raise TextError(f"model {model} with decoder {decoder} is not supported: a byte-level BPE is needed")


def _changes_text(normalizer: dict | None) -> bool:
    """True if a normaliser is set that may do something: an empty sequence, as in the official file, does nothing."""
    return bool(normalizer) and bool(normalizer.get("normalizers", True))


def _byte_of_character() -> dict[str, int]:
    """The byte-level alphabet: printable Latin-1 stands for itself, the other 68 bytes for U+0100 onwards in order."""
    itself = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    table = {chr(byte): byte for byte in itself}
    others = [byte for byte in range(256) if byte not in set(itself)]
    return table | {chr(0x100 + rank): byte for rank, byte in enumerate(others)}
