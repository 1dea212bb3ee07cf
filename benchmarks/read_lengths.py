"""Reading documents of growing length with octavo-xs: speed, memory, the file, and how fast it opens. FP32 on the CPU.

Covers: for each length a process of its own that reads the beginning of Shakespeare's plays as one document (BOS
included in the count), once a short part of it has paid for compiling. Cache bytes are those of the tensors that were
allocated, beside what `plan` predicts; peak memory is that of the whole process, interpreter and torch included.
Processor seconds far from seconds times threads tell of other work on the machine: run again. Does not cover: answers
(`octavo eval`), other models' speed (`vs_transformers`), GPUs.

    python -m benchmarks.read_lengths [--lengths 8K 32K 128K 256K] [--model octavo-xs] [--opens 20]
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

import octavo
from octavo.bench.record import write_json
from octavo.bench.surroundings import RESULTS, surroundings
from octavo.engine.document import Document
from octavo.engine.llm import LLM
from octavo.engine.locate import locate
from octavo.engine.plan import parse_context, plan
from octavo.engine.texts import Text
from octavo.evals.texts import SHAKESPEARE, filler
from octavo.text.tokenizer import Tokenizer

LAST = 8192  # tokens at the end whose speed is told apart
WARM_UP = 8192  # characters of the text that are read before the clock starts, at most a quarter of it
ROOT = RESULTS.parent.parent


def text_of(tokenizer: Tokenizer, tokens: int) -> str:
    """The beginning of the plays that makes a document of `tokens` tokens; SystemExit when they are too short.

    Tokens of a beginning are those of the whole but for its last word, so the cut is sought among the nearest places.
    """
    whole, encode = filler(SHAKESPEARE), tokenizer.encode
    ids = encode(whole[: 8 * tokens])  # some 3 characters make a token
    if len(ids) < tokens:
        ids = encode(whole)
    if len(ids) < tokens:
        raise SystemExit(f"the plays have {len(ids):,} tokens; {tokens:,} were asked for")
    place = len(tokenizer.decode(ids[: tokens - 1]))
    for end in sorted(range(max(1, place - 20), place + 20), key=lambda end: abs(end - place)):
        if len(encode(whole[:end])) == tokens - 1:
            return whole[:end]
    raise SystemExit(f"no beginning of the plays has exactly {tokens:,} tokens")


def allocated_bytes(doc: Document) -> int:
    """Bytes of the storages behind a document's state: slabs of pages, tails, token ids."""
    tails = [rows for tail in doc.state.tails for rows in (tail.window, tail.conv, *tail.raw.values())]
    storages = [rows.untyped_storage() for rows in tails if rows is not None]
    each = {storage.data_ptr(): storage.nbytes() for storage in storages}
    return doc.llm.pool.nbytes + sum(each.values()) + doc.state.tokens.nbytes


def peak_bytes() -> int:
    """Most memory that this process has had resident; Linux counts in KiB, macOS in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def measure(name: str, text: str, tokens: int, opens: int) -> dict[str, Any]:
    """All figures of one length, in this process."""
    model = octavo.load(name, capacity_tokens=tokens)  # one slab of just these pages, so that allocation tells
    with model.read(Text(name="warm-up", text=text[: min(WARM_UP, len(text) // 4)])):
        loaded = peak_bytes()
    clock: list[tuple[int, float]] = []
    worked = time.process_time()
    with model.read(
        Text(name=SHAKESPEARE, text=text), progress=lambda done, *_: clock.append((done, time.perf_counter()))
    ) as doc:
        worked, peak = time.process_time() - worked, peak_bytes()
        began, ended = clock[0][1], clock[-1][1]
        before = max(moment for moment in clock if moment[0] <= max(0, tokens - LAST))
        planned = plan(model.config, tokens, "cpu2").cache_bytes
        record = {
            "tokens": len(doc),
            "seconds": ended - began,
            "processor_seconds": worked,
            "tokens_per_second": len(doc) / (ended - began),
            "last_tokens": len(doc) - before[0],
            "last_tokens_per_second": (len(doc) - before[0]) / (ended - before[1]),
            "peak_bytes": peak,
            "peak_bytes_before_reading": loaded,
            "cache_bytes": allocated_bytes(doc),
            "planned_cache_bytes": planned,
        }
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "plays.octavo"
            doc.save(path)
            record["file_bytes"] = path.stat().st_size
            times = [open_seconds(model, path) for _ in range(opens)]
    return record | {"open_seconds": statistics.median(times), "open_seconds_worst": max(times)}


def open_seconds(model: LLM, path: Path) -> float:
    """Time of opening a saved document with a model that is loaded."""
    start = time.perf_counter()
    doc = model.open(path)
    seconds = time.perf_counter() - start
    doc.close()
    return seconds


def in_process_of_its_own(arguments: argparse.Namespace, tokens: int) -> dict[str, Any]:
    """`measure` in a fresh process, whose peak memory is that of this length alone.

    The text is cut in another one: tokenizing all plays takes more memory than reading, and a process inherits the peak
    of its parent.
    """
    line = [sys.executable, "-m", "benchmarks.read_lengths", "--one", str(tokens), "--model", arguments.model]
    line += ["--opens", str(arguments.opens), "--threads", str(arguments.threads)]
    with tempfile.TemporaryDirectory() as folder:
        found = ""
        for role in ("--cut-to", "--read-from"):
            run = subprocess.run(
                [*line, role, f"{folder}/plays.txt"], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False
            )
            if run.returncode:
                raise SystemExit(f"{tokens:,} tokens failed with exit code {run.returncode}; nothing was written")
            found = run.stdout
    return json.loads(found)


def with_ratios(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each record with its speed over that of the shortest length, and its measured over its planned bytes."""
    base = min(records, key=lambda record: record["tokens"])["tokens_per_second"]
    return [
        record
        | {
            "speed_ratio": record["tokens_per_second"] / base,
            "last_speed_ratio": record["last_tokens_per_second"] / base,
            "cache_ratio": record["cache_bytes"] / record["planned_cache_bytes"],
        }
        for record in records
    ]


def table(records: list[dict[str, Any]]) -> str:
    """The records as lines for people: MB are 10^6 bytes; speeds are beside their ratio to that of the first row."""
    lines = [
        f"{'tokens':>9} {'seconds':>9} {'tokens/s':>15} {f'last {LAST:,}':>15} {'peak MB':>8} {'cache MB':>9} "
        f"{'of plan':>8} {'file MB':>8} {'open ms':>8}"
    ]
    for r in records:
        speed = f"{r['tokens_per_second']:,.0f} ({r['speed_ratio']:.2f})"
        last = f"{r['last_tokens_per_second']:,.0f} ({r['last_speed_ratio']:.2f})"
        lines.append(
            f"{r['tokens']:>9,} {r['seconds']:>9.1f} {speed:>15} {last:>15} {r['peak_bytes'] / 1e6:>8.0f} "
            f"{r['cache_bytes'] / 1e6:>9.2f} {r['cache_ratio']:>8.4f} {r['file_bytes'] / 1e6:>8.2f} "
            f"{r['open_seconds'] * 1e3:>8.1f}"
        )
    return "\n".join(lines)


def main() -> None:
    """Parse, run, print the table, write `docs/results/read_lengths.json`."""
    parser = argparse.ArgumentParser(description="Speed and memory of reading documents of growing length.")
    parser.add_argument("--lengths", nargs="+", default=["8K", "32K", "128K", "256K"], help="tokens, as 4096 or 32K")
    parser.add_argument("--model", default="octavo-xs")
    parser.add_argument("--opens", type=int, default=20)
    parser.add_argument("--threads", type=int, default=0, help="0 keeps torch's choice")
    parser.add_argument("--out", type=Path, default=RESULTS / "read_lengths.json")
    for name, kind in (("--one", int), ("--cut-to", Path), ("--read-from", Path)):  # the two processes of a length
        parser.add_argument(name, type=kind, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    if arguments.cut_to is not None:
        text = text_of(Tokenizer.load(locate(arguments.model)), arguments.one)
        arguments.cut_to.write_bytes(text.encode())
        return
    if arguments.read_from is not None:
        text = arguments.read_from.read_bytes().decode()
        print(json.dumps(measure(arguments.model, text, arguments.one, arguments.opens)))
        return
    record = surroundings() | {"model": arguments.model, "dtype": "float32", "text": SHAKESPEARE}
    records = []
    for tokens in sorted(parse_context(length) for length in arguments.lengths):
        records.append(in_process_of_its_own(arguments, tokens))
        print(f"{tokens:,} tokens: {records[-1]['seconds']:.1f} s", file=sys.stderr, flush=True)
    record["lengths"] = with_ratios(records)
    write_json(arguments.out, record)
    print(table(record["lengths"]))
    print(f"written to {arguments.out}")


if __name__ == "__main__":
    main()
