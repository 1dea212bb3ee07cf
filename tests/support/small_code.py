"""Program text beside the small world: the same tokenizer, one source of JavaScript and one of short documents more.

Covers: what tests of rows of code and of rows of text alone need. Does not cover: packs.
"""

from __future__ import annotations

from random import Random

import numpy as np

from octavo.data.prose import TextSource
from octavo.data.tasks import lists
from tests.support.small_text import SmallText, small_prose


def small_code(functions: int, *, seed: int = 0) -> str:
    """Functions of a few indented lines, most of which stand once."""
    draw = Random(seed)

    def word() -> str:
        return draw.choice((*lists.NOUNS, *lists.THINGS))

    def line() -> str:
        return f"  const {word()}{draw.randint(1, 999)} = {word()} + {draw.randint(10, 99)} * {word()};"

    made = []
    for number in range(functions):
        head, tail = f"function {word()}{number}({word()}, {word()}) {{", f"  return {word()};\n}}"
        made.append("\n".join([head, *(line() for _ in range(4)), tail]))
    return "\n\n".join(made)


def with_code(world: SmallText) -> TextSource:
    """The world's prose, a document of JavaScript, and thirty short facts of a few words each."""
    facts = [f"The fact about the {thing} is {number}." for number, thing in enumerate(lists.THINGS[:30])]
    texts = [small_prose(60, seed=1), small_code(120), *facts]
    documents = world.encode(texts)
    ends = np.cumsum([len(ids) for ids in documents])
    names = ["books", "javascript", *["facts"] * len(facts)]
    tokens = np.array([i for ids in documents for i in ids], dtype=np.uint16)
    return TextSource(tokens, np.concatenate([[0], ends[:-1]]), ends, names, world.source.vocabulary)
