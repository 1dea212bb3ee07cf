"""Which documents of the corpus are trained on: a budget of bytes for each source, documents drawn by hash.

Covers: the mix of the first weights, the draw. Does not cover: order within training, weights of losses.
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
