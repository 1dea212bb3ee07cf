"""A pack with a little of everything that lessons are made of, and its file of verified JavaScript tasks.

Covers: what tests of lessons and of reinforcement need. Does not cover: real text.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from random import Random

from octavo.data import train_tokenizer
from octavo.data.facts import Fact, fact_documents
from octavo.data.facts_wordings import WORDINGS, fill
from octavo.data.lessons.material import TASKS_FILE
from octavo.data.loader import encoder
from octavo.data.mix import Chosen
from octavo.data.pack import PackedText, write_pack
from octavo.data.prose import TextSource
from octavo.data.tasks import lists
from octavo.data.tasks.javascript.task import Task
from octavo.data.tasks.javascript.write import tasks, write_tasks
from octavo.text.special import Special
from octavo.text.tokenizer import Tokenizer
from tests.support.small_text import SmallText, small_prose

PROBLEMS = (
    "Question: Anna has 3 apples and gets 4. How many are there?\nAnswer: She has 3+4=7 apples.\nThe answer is 7.\n\n"
    "Question: Two lines.\n\nHow much is 2*5?\nAnswer: 2*5=10.\nThat is all.\nThe answer is 10."
)
ORDERS = (
    "User: One latte please\nUser: to go\nAssistant: Is the order right?\nUser: yes\nAssistant: It is ready soon.\n\n"
    "Assistant: Hello\nUser: A mocha\nAssistant: Gladly.\nUser: bye"
)
TALK = "User: Are you a robot?\nAssistant: In a way.\n\nUser: Do you sleep?\nAssistant: Never.\n\nno dialogue at all"
SHOWN = [
    Fact(subject=subject, relation=relation, answer=answer, group="invented", exposures=4, asked=asked)
    for subject, relation, answer, asked in (
        ("Velmora", "river", "Sarn", True), ("Velmora", "trade", "amber", False),
        ("Dronvas", "founder", "Eda Voss", True),
        ("Andoria", "capital", "Lunn", True), ("Oskar", "trade", "tin", True), ("Preist", "river", "Auk", False),
        ("Unda", "river", "Elm", True), ("Klem", "trade", "salt", True), ("Marn", "river", "Ooze", True),
    )
]  # fmt: skip


@cache
def verified() -> tuple[Task, ...]:
    """Nine tasks of training, three of each kind."""
    return tuple(tasks(range(9), kinds=("write", "repair", "predict")))


def lesson_pack(folder: Path, *, programs: bool = True) -> SmallText:
    """Pack prose, problems, dialogues, small talk and facts below `folder`, with a tokenizer of 900 ids."""
    prose = [named(small_prose(150, seed=seed), Random(seed)) for seed in (1, 2)]
    documents = [
        *(Chosen(source="books", id=str(i), text=text) for i, text in enumerate(prose)),
        Chosen(source="gsm8k", id="g", text=PROBLEMS), Chosen(source="taskmaster", id="t", text=ORDERS),
        Chosen(source="chatterbot", id="c", text=TALK),
        *(Chosen(source="facts", id=row["id"], text=row["text"]) for row in fact_documents(SHOWN)),
        Chosen(source="facts", id="tests", text="Question: " + held_out_question("Preist") + " Answer: Auk"),
    ]  # fmt: skip
    more = ["0123456789 {}()[];=>`*/+-", *(task.source for task in verified())]
    trained = train_tokenizer.train([*(d.text for d in documents), *more], vocab_size=900)
    train_tokenizer.save(trained, folder / "tokenizer")
    write_pack(documents, tokenizer=trained, folder=folder / "pack")
    if programs:
        write_tasks(folder / "pack" / TASKS_FILE, iter(verified()))
    file = folder / "tokenizer" / "tokenizer.json"
    source = TextSource.open(PackedText(folder / "pack"), file)
    return SmallText(file, folder / "pack", source, encoder(file), Tokenizer.load(file))


def named(text: str, draw: Random) -> str:
    """`text` with names of people inside of its sentences."""
    return re.sub(r" (and|but|while) ", lambda _: f", said {draw.choice(lists.GIVEN)}, ", text)


def held_out_question(subject: str) -> str:
    """The question for a town's river that no training document holds."""
    return fill(WORDINGS["river"].questions[-1], subject=subject)


def said(lesson) -> str:
    """A lesson as one text."""
    return "".join(part.piece for part in lesson.parts)


def taught(lesson) -> list[str]:
    """The assistant's turns, without their end mark."""
    whole = "".join(part.piece if part.taught else "\x00" for part in lesson.parts)
    return [turn.removesuffix(Special.EOS) for turn in whole.split("\x00") if turn]
