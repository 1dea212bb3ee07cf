"""Reading up to a million tokens and decoding behind them, by geometry and index: speed, memory, share of the bound.

Covers: for each length and index (exact, two levels) a process of its own that reads token ids in chunks, then decodes
greedily; a shipped model reads the plays, a preset has random weights and random ids, since time does not depend on
them. Memory is the whole process's peak. A decode step's bound is the bytes it must read (weights, index keys or coarse
keys, rows attended to) over the read bandwidth measured in the same process. With `--decode-only` 8,192 tokens are read
and the entries behind them made up, since a step's time does not depend on what they say. Does not cover: answers,
files (`read_lengths`), other models (`vs_transformers`).

    python -m benchmarks.long_read [--model s] [--lengths 8K 256K 1M] [--levels 1 2] [--decode 32] [--decode-only]
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from octavo.bench.record import write_json
from octavo.bench.surroundings import RESULTS, ROOT, surroundings
from octavo.cache.layout import CacheLayout
from octavo.cache.pool import PagePool
from octavo.cache.state import SequenceState
from octavo.config.counts import count
from octavo.config.model import ModelConfig
from octavo.config.presets import PRESETS, preset
from octavo.engine.cost import token_bytes
from octavo.engine.llm import load
from octavo.engine.plan import parse_context
from octavo.engine.runner import Runner
from octavo.evals.texts import SHAKESPEARE, filler
from octavo.kernels import native
from octavo.kernels.index_topk import scan
from octavo.kernels.memory import in_large_pages
from octavo.model.init import init_weights
from octavo.model.transformer import Transformer

LAST = 8192  # tokens at the end whose speed is told apart
ROOM = 1024  # tokens decoded and warmed up with, at most
_WARM = 2048  # tokens read before the clock starts
_READ = 1 << 27  # FP32 numbers summed to measure the read bandwidth


def world(name: str, tokens: int, levels: int) -> tuple[Runner, np.ndarray]:
    """A runner with room for the tokens, and their ids."""
    if name not in PRESETS:
        llm = load(name, capacity_tokens=tokens + ROOM, index_levels=levels)
        ids = np.asarray(llm.tokenizer.encode(filler(SHAKESPEARE)[: 8 * tokens])[:tokens])
        if len(ids) < tokens:
            ids = np.asarray(llm.tokenizer.encode(filler(SHAKESPEARE))[:tokens])
        return llm.runner, np.resize(ids, tokens)  # the plays are a little short of 1,048,576 tokens: they begin again
    config = preset(name).changed(index_levels=levels, max_position_embeddings=1048576 + ROOM)
    model = Transformer(config)
    init_weights(model, seed=0)
    with torch.no_grad():  # outputs that begin at zero would make the streams, and so the picks, all alike
        for key, weight in model.named_parameters():
            if key.endswith(("wo_b.weight", ".w2", ".w2.weight")):
                weight.normal_(0, weight.shape[-1] ** -0.5, generator=torch.Generator().manual_seed(len(key)))
    in_large_pages([*model.parameters(), *model.buffers()])  # as `load` does
    ids = np.random.default_rng(0).integers(3, config.vocab_size, tokens)
    pool = PagePool(CacheLayout(config), capacity_tokens=tokens + ROOM)
    return Runner(model.eval().requires_grad_(False), pool), ids


def read_bandwidth() -> float:
    """Bytes a second of summing memory that no cache holds, the best of five."""
    numbers, best = torch.ones(_READ), float("inf")
    for _ in range(5):
        start = time.perf_counter()
        numbers.sum()
        best = min(best, time.perf_counter() - start)
    return 4 * _READ / best


def decode_bytes(config: ModelConfig, context: int) -> float:
    """What a decode step reads, weights and cache in FP32."""
    return token_bytes(CacheLayout(config), context, weight_bytes=4 * count(config).active).total


def decode_times(runner: Runner, state: SequenceState, steps: int) -> list[float]:
    """Seconds of each of `steps` greedy tokens."""
    token, times = np.array([5]), []
    for _ in range(steps + 4):
        start = time.perf_counter()
        token = runner.step(token, state).logits.argmax(-1).numpy()
        times.append(time.perf_counter() - start)
    return times[4:]


def measure(name: str, tokens: int, levels: int, steps: int) -> dict[str, Any]:
    """All figures of one length and index, in this process."""
    runner, ids = world(name, tokens, levels)
    warm = runner.new_state()
    runner.read(ids[:_WARM], warm)
    decode_times(runner, warm, 4)
    warm.close()
    state, clock = runner.new_state(), [(0, time.perf_counter())]
    worked = time.process_time()
    runner.read(ids, state, after=lambda state: clock.append((state.length, time.perf_counter())))
    worked = time.process_time() - worked
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    before = max(mark for mark in clock if mark[0] <= max(0, tokens - LAST))
    seconds, last = clock[-1][1] - clock[0][1], clock[-1][1] - before[1]
    return {
        "tokens": tokens,
        "index_levels": levels,
        "seconds": seconds,
        "processor_seconds": worked,
        "tokens_per_second": tokens / seconds,
        "last_tokens_per_second": (tokens - before[0]) / last,
        "peak_bytes": peak,
        "cache_bytes": state.nbytes,
    } | decoding(runner, state, tokens, steps)


def decoding(runner: Runner, state: SequenceState, tokens: int, steps: int) -> dict[str, float]:
    """A decode step behind `tokens` tokens, and the bound of what it reads."""
    step = statistics.median(decode_times(runner, state, steps))
    moved, bandwidth = decode_bytes(runner.model.config, tokens), read_bandwidth()
    return {
        "decode_seconds": step,
        "decode_bytes": moved,
        "read_bytes_per_second": bandwidth,
        "decode_bound_share": moved / bandwidth / step,
    }


def measure_decoding(name: str, tokens: int, levels: int, steps: int) -> dict[str, Any]:
    """A step behind `tokens` tokens, of which those beyond the first 8,192 were never read, in this process."""
    runner, ids = world(name, tokens, levels)
    state = runner.new_state()
    runner.read(ids[: min(tokens, LAST)], state)
    if tokens > LAST:
        make_up(state, tokens - LAST)
    return {"tokens": tokens, "index_levels": levels} | decoding(runner, state, tokens, steps)


def make_up(state: SequenceState, tokens: int) -> None:
    """Random FP32 entries of `tokens` more tokens behind what was read; the newest rows stay those that were."""
    state.reserve(tokens)
    generator = torch.Generator().manual_seed(0)
    for key, spec in state.pool.specs.items():
        read, n = state.length // spec.ratio, spec.entries_per_page
        for run in state.runs:
            rows = run.slab.stores[key][run.page * n : (run.page + run.count) * n].view(torch.float32)
            rows[max(read - run.start * n, 0) :].normal_(generator=generator)
    tails = [
        replace(tail, raw_first={name: at + tokens for name, at in tail.raw_first.items()}) for tail in state.tails
    ]
    state.append(np.full(tokens, 7), tuple(tails))


def with_ratios(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each record with its speeds over those of the shortest length with the same index."""
    made = []
    for record in records:
        alike = [other for other in records if other["index_levels"] == record["index_levels"]]
        base = min(alike, key=lambda other: other["tokens"])
        ratios = {"decode_ratio": base["decode_seconds"] / record["decode_seconds"]}
        if "tokens_per_second" in record:
            ratios["speed_ratio"] = record["tokens_per_second"] / base["tokens_per_second"]
        made.append(record | ratios)
    return made


def table(records: list[dict[str, Any]]) -> str:
    """The records as lines for people; ratios are to the shortest length with the same index."""
    lines = [
        f"{'tokens':>9} {'levels':>6} {'seconds':>9} {'tokens/s':>15} {f'last {LAST:,}':>11} {'peak MB':>8} "
        f"{'decode ms':>15} {'of bound':>9}"
    ]
    for r in records:
        speed = f"{r['tokens_per_second']:,.0f} ({r['speed_ratio']:.2f})"
        step = f"{r['decode_seconds'] * 1e3:.2f} ({r['decode_ratio']:.2f})"
        lines.append(
            f"{r['tokens']:>9,} {r['index_levels']:>6} {r['seconds']:>9.1f} {speed:>15} "
            f"{r['last_tokens_per_second']:>11,.0f} {r['peak_bytes'] / 1e6:>8.0f} "
            f"{step:>15} {r['decode_bound_share']:>9.0%}"
        )
    return "\n".join(lines)


def decode_table(records: list[dict[str, Any]]) -> str:
    """Steps alone, as `table`."""
    lines = [f"{'tokens':>9} {'levels':>6} {'decode ms':>15} {'of bound':>9}"]
    for r in records:
        step = f"{r['decode_seconds'] * 1e3:.2f} ({r['decode_ratio']:.2f})"
        lines.append(f"{r['tokens']:>9,} {r['index_levels']:>6} {step:>15} {r['decode_bound_share']:>9.0%}")
    return "\n".join(lines)


def in_process_of_its_own(arguments: argparse.Namespace, tokens: int, levels: int) -> dict[str, Any]:
    """`measure` in a fresh process, whose peak memory is that of this length alone."""
    line = [sys.executable, "-m", "benchmarks.long_read", "--model", arguments.model, "--one", str(tokens)]
    line += ["--levels", str(levels), "--decode", str(arguments.decode)]
    line += ["--decode-only"] if arguments.decode_only else []
    run = subprocess.run(line, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    if run.returncode:
        raise SystemExit(f"{tokens:,} tokens failed with exit code {run.returncode}; nothing was written")
    return json.loads(run.stdout)


def main() -> None:
    """Parse, run, print the table, write `docs/results/long_read_<model>.json` after every row."""
    parser = argparse.ArgumentParser(description="Reading and decoding at length, by geometry and index.")
    parser.add_argument("--model", default="s", help=f"a shipped model, or {', '.join(PRESETS)} with random weights")
    parser.add_argument("--lengths", nargs="+", default=["8K", "256K", "1M"], help="tokens, as 4096 or 32K")
    parser.add_argument("--levels", nargs="+", type=int, default=[1, 2], choices=[1, 2])
    parser.add_argument("--decode", type=int, default=32, help="tokens decoded")
    parser.add_argument("--decode-only", action="store_true", help="entries behind 8,192 tokens are made up, not read")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one is not None:
        made = (measure_decoding if given.decode_only else measure)(
            given.model, given.one, given.levels[0], given.decode
        )
        print(json.dumps(made))
        return
    name = given.model.replace("-", "_")
    out = given.out or RESULTS / f"{'long_decode' if given.decode_only else 'long_read'}_{name}.json"
    record = surroundings() | {
        "model": given.model, "dtype": "float32", "scan": scan.LEVELS[scan.level()], "loops": native.running(),
    }  # fmt: skip
    drawn = decode_table if given.decode_only else table
    records: list[dict[str, Any]] = []
    for tokens in sorted(parse_context(length) for length in given.lengths):
        for levels in given.levels:
            records.append(in_process_of_its_own(given, tokens, levels))
            found = with_ratios(records)
            write_json(out, record | {"decoding" if given.decode_only else "lengths": found})
            print(drawn(found[-1:]).splitlines()[-1], file=sys.stderr, flush=True)
    print(drawn(with_ratios(records)))
    print(f"written to {out}")


if __name__ == "__main__":
    main()
