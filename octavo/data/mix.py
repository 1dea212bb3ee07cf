"""Which documents of the corpus are trained on: a budget of bytes for each source, documents drawn by hash.

Covers: the mixes of `octavo-xs` and `octavo-s`, the draw. Does not cover: order within training, weights of losses.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from octavo.config.errors import ConfigError
from octavo.data.corpus import read_documents

MB = 1_000_000
# Bytes of text by source: three quarters books, the rest modern prose, definitions and country profiles.
XS_MIX: Mapping[str, int] = {
    "books": 54 * MB, "python": 3_500_000, "postgresql": 2_500_000, "sqlite": 2 * MB, "django": 1 * MB,
    "node": 800_000, "rust": 1_200_000, "jargon": 1_400_000, "wordnet": 3 * MB, "factbook": 2 * MB,
}  # fmt: skip
# All that the corpus holds: 46 % English, 39 % JavaScript, 14 % facts and definitions.
S_MIX: Mapping[str, int] = {
    "books": 72 * MB, "python": 9_500_000, "postgresql": 7 * MB, "sqlite": 5_500_000, "django": 5 * MB, "node": 4 * MB,
    "rust": 1_200_000, "jargon": 1_500_000, "sqlalchemy": 4_500_000, "readmes": 4_500_000, "gsm8k": 4_200_000,
    "taskmaster": 900_000, "chatterbot": 200_000, "javascript": 96 * MB, "wordnet": 13 * MB, "factbook": 6 * MB,
    "elements": 100_000, "definitions": 10 * MB, "facts": 10 * MB,
}  # fmt: skip
MIXES: Mapping[str, Mapping[str, int]] = {"xs": XS_MIX, "s": S_MIX}


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """A document of the mix."""

    source: str
    id: str
    text: str


def _rank(name: str, row_id: str) -> bytes:
    return hashlib.sha256(f"{name}\n{row_id}".encode()).digest()


def chosen_documents(corpus: Path, mix: Mapping[str, int] = XS_MIX) -> Iterator[Chosen]:
    """Documents of each source in hash order, whole, as long as they fit into its budget of UTF-8 bytes.

    A document that does not fit is passed over, so the draw depends on ids and sizes only. Raises ConfigError for a
    budget that is not positive.
    """
    for name, budget in mix.items():
        if budget <= 0:
            raise ConfigError(f"mix gives source {name!r} {budget} bytes; it must be positive")
        left = budget
        rows = list(read_documents(corpus, name))
        for row in sorted(rows, key=lambda row: _rank(name, row["id"])):
            size = len(row["text"].encode())
            if size <= left:
                left -= size
                yield Chosen(source=name, id=row["id"], text=row["text"])
