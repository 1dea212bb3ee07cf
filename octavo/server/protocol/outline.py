"""A document as a strip of equal bins, and where its texts and its window lie in it.

Covers: the strip's frame as JSON. Does not cover: its route (`fold`), what an answer looked at, which comes with the
answer (`octavo.engine.mapping`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from octavo.engine.document import Document


def outline_body(document: Document, bins: int) -> dict[str, Any]:
    """The body; chars count what was read of a text. LimitError for too many bins."""
    from octavo.engine.mapping import bin_starts

    texts = document.texts
    files = [
        {
            "name": entry.name,
            "first_token": entry.first_token,
            "tokens": entry.tokens,
            "chars": int(texts.starts(entry)[-1]),
        }
        for entry in texts.entries
    ]
    return {
        "object": "document.map",
        "tokens": len(document),
        "window": document.llm.config.sliding_window,
        "files": files,
        "starts": [[file, char] for file, char in bin_starts(texts, bins)],
    }
