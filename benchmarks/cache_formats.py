"""What storing entries in fewer bits costs: bits per byte of held-out text and recall of facts, format beside format.

Covers: the shipped model on the CPU with entries in FP32, FP8 and FP4 in one process, the same texts and questions for
all, index keys alike (`--index`), window rows as each format has them (FP8 beside FP4). Losses come token by token, so
that the difference to the first format has a standard error, over stretches of the text. Does not cover: speed, GPUs
(there `octavo eval recall --device cuda --main fp4`).

    python -m benchmarks.cache_formats [--main fp32 fp8 fp4] [--index fp32] [--tokens 64K] [--lengths 8K 32K]
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch

import octavo
from benchmarks.int8 import ids_of, recall
from octavo.bench.record import write_json
from octavo.bench.surroundings import RESULTS, surroundings
from octavo.cache.layout import RowFormat
from octavo.engine.llm import LLM
from octavo.engine.plan import parse_context
from octavo.evals.language import token_bits
from octavo.evals.texts import SHAKESPEARE, filler

STRETCHES = 32  # of the text, over which the standard error of a difference is taken
FORMATS = [RowFormat.FP32, RowFormat.FP8, RowFormat.FP4]


def difference(bits: np.ndarray, base: np.ndarray, text_bytes: int) -> dict[str, float]:
    """By how many bits per byte a text takes more than in the base, and the standard error of it."""
    more = bits - base
    sums = np.array([part.sum() for part in np.array_split(more, min(STRETCHES, len(more)))])
    error = sums.std(ddof=1) * math.sqrt(len(sums)) if len(sums) > 1 else math.nan
    return {"bits_per_byte": float(more.sum()) / text_bytes, "standard_error": float(error) / text_bytes}


def sizes(model: LLM) -> dict[str, Any]:
    """Formats and bytes of a model's cache."""
    layout = model.pool.layout
    return {
        "main": layout.main.value, "index": layout.index.value, "window": layout.window.value,
        "entry_bytes": layout.row_bytes("main"), "window_row_bytes": layout.window_row_bytes,
        "bytes_per_token": layout.bytes_per_token,
    }  # fmt: skip


def measured(models: dict[str, LLM], text: str, tokens: int) -> dict[str, Any]:
    """Bits per byte of the beginning of `text` in every format, beside the first."""
    first = next(iter(models.values()))
    ids = ids_of(first, text, tokens)
    text_bytes = len(first.tokenizer.decode(ids[1:].tolist()).encode())
    found: dict[str, Any] = {"tokens": tokens, "bytes": text_bytes, "bits_per_byte": {}, "more_than_first": {}}
    base = None
    for name, model in models.items():
        bits = token_bits(model, ids)
        base = bits if base is None else base
        found["bits_per_byte"][name] = float(bits.sum()) / text_bytes
        found["more_than_first"][name] = difference(bits, base, text_bytes)
        print(_line(name, found), flush=True)
    return found


def _line(name: str, found: dict[str, Any]) -> str:
    more = found["more_than_first"][name]
    return (
        f"entries in {name}: {found['bits_per_byte'][name]:.4f} bits per byte, {more['bits_per_byte']:+.4f} "
        f"(standard error {more['standard_error']:.4f}) over {found['tokens']:,} tokens"
    )


def main() -> None:
    """Parse, run, print, write `docs/results/cache_formats.json`."""
    parser = argparse.ArgumentParser(description="What entries in fewer bits cost.")
    parser.add_argument("--main", nargs="+", type=RowFormat, default=FORMATS, help="of entries, the base first")
    parser.add_argument("--index", type=RowFormat, default=RowFormat.FP32, help="of index keys, for all alike")
    parser.add_argument("--text", nargs="+", default=[SHAKESPEARE], help="files of held-out text, or shakespeare")
    parser.add_argument("--tokens", default="64K", help="of each text, for bits per byte")
    parser.add_argument("--lengths", nargs="*", default=["8K", "32K"], help="of the recall documents")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2], help="recall cells; 0 is the published one")
    parser.add_argument("--count", type=int, default=64, help="questions in each document")
    parser.add_argument("--model", default="octavo-xs")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--out", type=Path, default=RESULTS / "cache_formats.json")
    arguments = parser.parse_args()
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    tokens, lengths = parse_context(arguments.tokens), [parse_context(length) for length in arguments.lengths]
    models = {
        form.value: octavo.load(arguments.model, main=form, index=arguments.index)
        for form in dict.fromkeys(arguments.main)
    }
    first = next(iter(models.values()))
    record = surroundings() | {"model": arguments.model, "fingerprint": first.fingerprint}
    record |= {"formats": {name: sizes(model) for name, model in models.items()}, "texts": {}, "recall": []}
    for text in arguments.text:
        record["texts"][Path(text).name] = measured(models, filler(text), tokens)
    write_json(arguments.out, record)
    for length in lengths:
        for name, model in models.items():
            right = recall(model, length, arguments.seeds, arguments.count)
            record["recall"].append({"main": name, "length": length, "seeds": arguments.seeds, **right})
            print(f"facts, {length:,} tokens, entries in {name}: {right['right']} of {right['asked']}", flush=True)
            write_json(arguments.out, record)
    print(f"written to {arguments.out}")


if __name__ == "__main__":
    main()
