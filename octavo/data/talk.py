"""Readers of questions and dialogues: each turns one archive into documents of many short exchanges.

Covers: word problems (GSM8K), ordering dialogues (Taskmaster), small talk (chatterbot-corpus), notes on the elements
(mendeleev). Does not cover: the format of chat with special tokens, which the rows of training add.

An exchange is one paragraph, so that the filter of the corpus takes it out whole.
"""

from __future__ import annotations

import re
import sqlite3
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from octavo.data.extract import Row
from octavo.data.heldout import read_rows

EXCHANGES = 8  # a document; most are shorter than the shortest run of training text
_LEFT_OUT = frozenset({"gossip", "politics", "coding"})  # opinions, and programs with lost indentation


def _documents(name: str, exchanges: Iterable[str]) -> Iterator[Row]:
    """Exchanges in order, eight to a document."""
    found = list(exchanges)
    for start in range(0, len(found), EXCHANGES):
        yield {"id": f"{name}:{start}", "text": "\n\n".join(found[start : start + EXCHANGES])}


def word_problems(pack: Path) -> Iterator[Row]:
    """GSM8K rows (`question`, `answer`): calculator marks go, the result stands in a last sentence."""

    def exchanges() -> Iterator[str]:
        for row in read_rows(pack):
            work, _, result = re.sub(r"<<[^>]*>>", "", row["answer"]).partition("#### ")
            yield f"Question: {row['question'].strip()}\nAnswer: {work.strip()}\nThe answer is {result.strip()}."

    return _documents("gsm8k", exchanges())


def dialogues(pack: Path) -> Iterator[Row]:
    """Taskmaster rows (`turns` of `role` and `text`), a line a turn."""

    def exchanges() -> Iterator[str]:
        for row in read_rows(pack):
            turns = ((turn["role"].capitalize(), " ".join(turn["text"].split())) for turn in row["turns"])
            yield "\n".join(f"{role}: {text}" for role, text in turns)

    return _documents("taskmaster", exchanges())


def _conversations(text: str) -> Iterator[list[str]]:
    """Conversations of a chatterbot YAML file: `- - ` opens one, `  - ` is a turn, deeper lines go on with it."""
    turns: list[str] = []
    for line in [*text.partition("conversations:")[2].splitlines(), "- - "]:
        if line.startswith("- - "):
            if len(turns) > 1:
                yield [turn.strip().strip("'\"") for turn in turns]
            turns = [line[4:]]
        elif line.startswith("  - "):
            turns.append(line[4:])
        elif line.startswith("    ") and turns:
            turns[-1] += " " + line.strip()


def small_talk(wheel: Path) -> Iterator[Row]:
    """English conversations of the `chatterbot-corpus` wheel, speakers in turn."""

    def exchanges() -> Iterator[str]:
        with zipfile.ZipFile(wheel) as archive:
            for name in sorted(n for n in archive.namelist() if "/english/" in n and n.endswith(".yml")):
                if Path(name).stem not in _LEFT_OUT:
                    for turns in _conversations(archive.read(name).decode("utf-8")):
                        yield "\n".join(f"{('User', 'Assistant')[i % 2]}: {turn}" for i, turn in enumerate(turns))

    return _documents("chatterbot", exchanges())


def elements(wheel: Path) -> Iterator[Row]:
    """What the `mendeleev` wheel says about each chemical element: description, name, sources, uses."""
    with tempfile.NamedTemporaryFile(suffix=".db") as file:
        with zipfile.ZipFile(wheel) as archive:
            file.write(archive.read("mendeleev/elements.db"))
        file.flush()
        database = sqlite3.connect(file.name)
        rows = database.execute(
            "select name, symbol, atomic_number, description, name_origin, sources, uses from elements "
            "order by atomic_number"
        ).fetchall()
        database.close()

    def exchanges() -> Iterator[str]:
        for name, symbol, number, about, origin, found, uses in rows:
            lines = [f"{name} ({symbol}), element {number}. {about or ''}"]
            for label, text in (("Name", origin), ("Sources", found), ("Uses", uses)):
                lines += [f"{label}: {text}"] if text else []
            yield "\n".join(" ".join(line.split()) for line in lines)

    return _documents("elements", exchanges())
