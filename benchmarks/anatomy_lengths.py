"""What loses answers in long documents, layer by layer: misses looked for, taken apart within a given time.

Covers: documents as in `octavo eval recall`, on the CPU or on a GPU, where the fused kernels read and sift them; all
questions are asked as the engine asks them, in any words, and misses are taken apart first, each beside a right answer
(`octavo.evals.anatomy`), until the time of the cell is spent. The report is written after every cell. Does not cover:
an even sample of questions, other kinds of repair.

    python -m benchmarks.anatomy_lengths MODEL --lengths 512K 1040000 [--kinds fact] [--count 192] [--seconds 20]
        [--device cuda] --out FOLDER
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import octavo
from octavo.bench.surroundings import gpu, surroundings
from octavo.data.tasks.cell import TEST_SEEDS, build_cell
from octavo.engine.plan import parse_context
from octavo.evals.anatomy import AnatomyCell, run_anatomy
from octavo.evals.anatomy_report import to_markdown, write
from octavo.evals.texts import SHAKESPEARE, filler, works

ROOM = 65_536  # tokens of cache on a GPU beyond the longest document


def measured(options: argparse.Namespace) -> list[AnatomyCell]:
    """All cells, shortest documents first."""
    lengths = sorted(map(parse_context, options.lengths))
    on_gpu = options.device != "cpu"
    dtype, room = ("bfloat16", lengths[-1] + ROOM) if on_gpu else ("float32", None)
    model: Any = octavo.load(options.model, dtype, device=options.device, capacity_tokens=room)
    about = surroundings() | {
        "model": Path(options.model).name, "fingerprint": model.fingerprint, "device": options.device, "dtype": dtype,
        "path": model.path, "gpu": gpu() if on_gpu else None, "main": model.pool.layout.main.value,
        "seconds": options.seconds,
    }  # fmt: skip
    text, apart, found = filler(options.text), works(options.text), []
    for length in lengths:
        for kind in options.kinds:
            started = time.perf_counter()
            cell = build_cell(
                kind, length, TEST_SEEDS, text=text, tokenizer=model.tokenizer, count=options.count, works=apart
            )
            made = time.perf_counter() - started
            found.append(run_anatomy(model, cell, text=options.text, sift=True, seconds=options.seconds))
            write(found, options.out, about=about)
            print(line(found[-1], made), flush=True)
    return found


def line(cell: AnatomyCell, made: float) -> str:
    """What came of a cell, in short. made: seconds that the document took to make."""
    assert cell.sifted is not None
    right, asked = cell.sifted
    wrong = [one for one in cell.questions if not one.right]
    return (
        f"{cell.kind} at {cell.tokens:,} tokens: {right} of {asked} right; {len(cell.questions)} taken apart, "
        f"{len(wrong)} of them wrong; made in {made:.1f} s, read in {cell.read_seconds:.1f} s, asked in "
        f"{cell.ask_seconds:.1f} s"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, run, print the page; `anatomy.json` and `anatomy.md` are in the folder."""
    parser = argparse.ArgumentParser(description="What loses answers in long documents.")
    parser.add_argument("model", help="shipped model or folder")
    parser.add_argument("--kinds", nargs="+", default=["fact"])
    parser.add_argument("--lengths", nargs="+", default=["512K"], help="tokens, as 8192 or 8K")
    parser.add_argument("--count", type=int, default=192, help="questions in each document")
    parser.add_argument("--seconds", type=float, default=20.0, help="for the questions of a cell")
    parser.add_argument("--text", default=SHAKESPEARE, help="what documents are made of")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, required=True)
    print(to_markdown(measured(parser.parse_args(arguments))))


if __name__ == "__main__":
    main()
