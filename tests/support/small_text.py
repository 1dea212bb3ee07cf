"""A small world of text: made-up prose, a tokenizer trained on it, a pack of it.

Covers: what tests of rows, loaders and cells need. Does not cover: real text.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from random import Random

from octavo.data import train_tokenizer
from octavo.data.loader import encoder
from octavo.data.mix import Chosen
from octavo.data.pack import PackedText, write_pack
from octavo.data.prose import TextSource
from octavo.data.rows import Encode
from octavo.data.tasks import lists
from octavo.text.tokenizer import Tokenizer

_JOINTS = ("and", "but", "under", "near", "with the", "without", "after the", "before", "while the", "of the")


def small_prose(paragraphs: int, *, seed: int = 0) -> str:
    """Paragraphs of two to five sentences of five to twenty words, no sentence twice in practice."""
    draw = Random(seed)

    def sentence() -> str:
        words = [draw.choice(("The", "A", "One", "Every", "No", "This"))]
        for _ in range(draw.randint(2, 7)):
            words += [draw.choice(lists.ADJECTIVES), draw.choice((*lists.NOUNS, *lists.THINGS)), draw.choice(_JOINTS)]
        return " ".join([*words, draw.choice(lists.ANIMALS)]) + draw.choice((".", ".", "!", "?"))

    return "\n\n".join(" ".join(sentence() for _ in range(draw.randint(2, 5))) for _ in range(paragraphs))


@dataclass(frozen=True)
class SmallText:
    """Files and opened objects over one pack of two sources."""

    tokenizer_file: Path
    pack_folder: Path
    source: TextSource
    encode: Encode
    tokenizer: Tokenizer


def small_text(folder: Path, *, paragraphs: int = 400) -> SmallText:
    """Train a tokenizer of 700 ids on small prose and pack three documents of it below `folder`."""
    texts = [small_prose(paragraphs, seed=seed) for seed in (1, 2, 3)]
    trained = train_tokenizer.train(
        [*texts, "0123456789 \"What is the secret number of Velmora?\" 'Who says'"], vocab_size=700
    )
    train_tokenizer.save(trained, folder / "tokenizer")
    documents = [
        Chosen(source=name, id=name + str(i), text=text)
        for i, (name, text) in enumerate(zip(("books", "books", "notes"), texts, strict=True))
    ]
    write_pack(documents, tokenizer=trained, folder=folder / "pack")
    file = folder / "tokenizer" / "tokenizer.json"
    source = TextSource.open(PackedText(folder / "pack"), file)
    return SmallText(file, folder / "pack", source, encoder(file), Tokenizer.load(file))
