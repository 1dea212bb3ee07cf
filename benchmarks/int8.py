"""INT8 weights beside FP32 on the CPU: products, bytes, speed of reading and decoding, bits per byte, recall of facts.

Covers: single products by octavo and by what torch has, at the shapes of octavo-xs and octavo-s; then whole models,
both in one process in turns (ABBA), so that only ratios count on a shared machine: the shipped one, and the preset `s`
with random weights for speed alone. Reading is timed by the wall clock, steps by processor time. Does not cover: GPUs,
recall at other lengths than `--prefill`.

    python -m benchmarks.int8 [--text shakespeare] [--tokens 64K] [--prefill 8K] [--seeds 0 1 2] [--threads 1]
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

import octavo
from benchmarks.speculation import random_runner
from octavo.bench.record import write_json
from octavo.bench.surroundings import RESULTS, surroundings
from octavo.data.tasks.cell import TEST_SEEDS
from octavo.engine.llm import LLM
from octavo.engine.plan import parse_context
from octavo.engine.runner import CHUNK, Runner
from octavo.evals.language import token_bits
from octavo.evals.runner import RecallPlan, run_recall
from octavo.evals.texts import SHAKESPEARE, filler
from octavo.kernels.int8_linear import int8_linear, round_weight
from octavo.kernels.int8_linear.products import product, units_are_exact
from octavo.model.int8 import to_int8
from octavo.model.transformer import Transformer

SHAPES = ((256, 128), (128, 512), (256, 256), (256, 192), (96, 256), (256, 4096), (512, 256), (256, 1024), (512, 512),
          (512, 320), (160, 512), (512, 8192))  # inputs, outputs: xs, then s  # fmt: skip
ROWS = (1, 8, 64, 256, 1024)
SLICE_SECONDS = 1e-3  # a turn of a product lasts at least about this long
Timed = Callable[[], object]


def in_turns(calls: dict[str, Timed], repeats: int, clock: Callable[[], float] = time.perf_counter) -> dict[str, Any]:
    """Seconds of every call: each turn runs all, every second one in the opposite order."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(repeats):
        for name in list(calls)[:: 1 if turn % 2 == 0 else -1]:
            start = clock()
            calls[name]()
            seconds[name].append(clock() - start)
    return seconds


def over(seconds: dict[str, list[float]], base: str) -> dict[str, dict[str, float]]:
    """How many times as fast as `base` each other call is, by best and by median."""
    return {
        name: {
            "best": min(seconds[base]) / min(own),
            "median": statistics.median(seconds[base]) / statistics.median(own),
        }
        for name, own in seconds.items()
        if name != base
    }


# -- products --------------------------------------------------------------------------------------------------------


@torch.inference_mode()
def products(inputs: int, outputs: int, rows: int, repeats: int) -> dict[str, Any]:
    """One shape: FP32, octavo's INT8, the product alone without rounding and scales, and torch's own operations."""
    x, weight = torch.randn(rows, inputs), torch.randn(outputs, inputs)
    ours, codes = round_weight(weight), torch.randint(-127, 128, (rows, inputs), dtype=torch.int8)
    narrow, narrow_scale = x.bfloat16(), ours.scale.bfloat16()
    calls: dict[str, Timed] = {
        "fp32": lambda: F.linear(x, weight),
        "octavo": lambda: int8_linear(x, ours),
        "product alone": lambda: product(codes, ours.codes),
        "_weight_int8pack_mm": lambda: torch._weight_int8pack_mm(narrow, ours.codes, narrow_scale),
    }
    if "fbgemm" in torch.backends.quantized.supported_engines:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch says that quantised tensors, which this form needs, will go
            zeros = torch.zeros(outputs, dtype=torch.int64)
            quantised = torch._make_per_channel_quantized_tensor(ours.codes, ours.scale, zeros, 0)
            packed = torch.ops.quantized.linear_prepack(quantised, None)
        calls["linear_dynamic"] = lambda: torch.ops.quantized.linear_dynamic(x, packed, False)
    times = dict.fromkeys(calls, 1)
    for name, call in calls.items():
        call()
        start = time.perf_counter()
        call()
        times[name] = max(1, int(SLICE_SECONDS / max(time.perf_counter() - start, 1e-7)))
    looped = {name: (lambda call=call, n=times[name]: [call() for _ in range(n)]) for name, call in calls.items()}
    seconds = in_turns(looped, repeats)
    each = {name: [value / times[name] for value in own] for name, own in seconds.items()}
    about = {"inputs": inputs, "outputs": outputs, "rows": rows, "fp32_seconds": min(each["fp32"])}
    return about | {"over": over(each, "fp32")}


# -- whole models ----------------------------------------------------------------------------------------------------


def weight_bytes(model: Transformer) -> int:
    """Bytes of all weights as they lie in memory."""
    return sum(value.nbytes for value in model.state_dict().values())


def speeds(pair: dict[str, Runner], ids: np.ndarray, *, decode: int, repeats: int) -> dict[str, Any]:
    """Reading `ids`, and steps of 1 and of 8 tokens behind them, FP32 beside INT8."""
    states = {}

    def read(name: str) -> None:
        if name in states:
            states.pop(name).close()
        states[name] = pair[name].new_state()
        pair[name].read(ids, states[name])

    def steps(name: str, width: int) -> None:
        for at in range(decode):
            pair[name].step(ids[at : at + width], states[name])

    found: dict[str, Any] = {"tokens": len(ids), "decode_steps": decode}
    for name in pair:  # compiling is not measured
        read(name)
        steps(name, 1)
        steps(name, 8)
    reading = in_turns({name: (lambda name=name: read(name)) for name in pair}, repeats)
    found["read_tokens_per_second"] = {name: len(ids) / min(own) for name, own in reading.items()}
    found["read_over_fp32"] = over(reading, "fp32")["int8"]
    for width in (1, 8):
        calls = {name: (lambda name=name, width=width: steps(name, width)) for name in pair}
        stepping = in_turns(calls, 4 * repeats, time.process_time)
        found[f"step_{width}_ms"] = {name: 1e3 * min(own) / decode for name, own in stepping.items()}
        found[f"step_{width}_over_fp32"] = over(stepping, "fp32")["int8"]
    return found


def random_pair(capacity: int) -> dict[str, Runner]:
    """The preset `s` with random weights, in FP32 and rounded."""
    pair = {name: random_runner(capacity) for name in ("fp32", "int8")}
    to_int8(pair["int8"].model)
    return pair


def bits_per_byte(model: LLM, ids: np.ndarray, text_bytes: int) -> float:
    """Of a text read as one sequence: every token but the first is predicted from all before it."""
    return float(token_bits(model, ids).sum()) / text_bytes


def recall(model: LLM, length: int, seeds: Iterable[int], count: int) -> dict[str, int]:
    """Facts of documents of one length: right answers and questions, summed over seeds."""
    right = asked = 0
    for seed in seeds:
        plan = RecallPlan(cells=(("fact", SHAKESPEARE),), lengths=(length,), count=count, seed=TEST_SEEDS + seed)
        for result in run_recall(model, model.tokenizer, plan):
            right, asked = right + result.right, asked + len(result.outcomes)
    return {"right": right, "asked": asked}


def ids_of(model: LLM, text: str, tokens: int) -> np.ndarray:
    """BOS and the beginning of `text`, `tokens` in all; SystemExit when it is shorter."""
    ids = [model.tokenizer.special("BOS"), *model.tokenizer.encode(text[: 8 * tokens])]
    if len(ids) < tokens:
        raise SystemExit(f"the text has {len(ids):,} tokens in its first {8 * tokens:,} characters; {tokens:,} needed")
    return np.array(ids[:tokens], dtype=np.int64)


def quality(pair: dict[str, LLM], text: str, tokens: int) -> dict[str, Any]:
    """Bits per byte of both, and their ratio."""
    ids = ids_of(pair["fp32"], text, tokens)
    text_bytes = len(pair["fp32"].tokenizer.decode(ids[1:].tolist()).encode())
    found = {name: bits_per_byte(model, ids, text_bytes) for name, model in pair.items()}
    return {"tokens": tokens, "bytes": text_bytes, "bits_per_byte": found, "ratio": found["int8"] / found["fp32"]}


# -- the command -----------------------------------------------------------------------------------------------------


def lines_of_products(found: list[dict[str, Any]]) -> list[str]:
    """A line a product: times as fast as FP32, by the best of each."""
    names = list(found[0]["over"])
    lines = [f"{'product':>14} {'rows':>5} {'fp32 us':>9} " + " ".join(f"{name:>20}" for name in names)]
    for one in found:
        shape, ratios = f"{one['inputs']} -> {one['outputs']}", [one["over"][name]["best"] for name in names]
        row = " ".join(f"{ratio:>20.2f}" for ratio in ratios)
        lines.append(f"{shape:>14} {one['rows']:>5} {1e6 * one['fp32_seconds']:>9.1f} {row}")
    return lines


def lines_of_speed(name: str, found: dict[str, Any]) -> list[str]:
    """What a pair of models takes and does, INT8 over FP32 by best and median."""
    sizes, lines = found["weight_bytes"], []
    lines.append(f"{name}: weights {sizes['fp32'] / 1e6:.1f} MB in fp32, {sizes['int8'] / 1e6:.1f} MB in int8")
    for what, key in (("reading", "read"), ("steps of 1 token", "step_1"), ("steps of 8 tokens", "step_8")):
        ratio = found["speed"][f"{key}_over_fp32"]
        lines.append(f"  {what}: {ratio['best']:.2f} times as fast by the best, {ratio['median']:.2f} by the median")
    return lines


def main() -> None:
    """Parse, run, print, write `docs/results/int8.json`."""
    parser = argparse.ArgumentParser(description="INT8 weights beside FP32 on the CPU.")
    parser.add_argument("--text", default=SHAKESPEARE, help="a file of held-out text, or shakespeare for the plays")
    parser.add_argument("--tokens", default="64K", help="of the text, for bits per byte")
    parser.add_argument("--prefill", default="8K", help="tokens that are read, and of the recall documents")
    parser.add_argument("--decode", type=int, default=32, help="steps a turn")
    parser.add_argument("--repeats", type=int, default=6, help="turns")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2], help="recall cells; 0 is the published one")
    parser.add_argument("--count", type=int, default=64, help="questions in each document")
    parser.add_argument("--model", default="octavo-xs")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS / "int8.json")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    text, tokens = filler(arguments.text), parse_context(arguments.tokens)
    prefill, record = parse_context(arguments.prefill), surroundings()
    record |= {"model": arguments.model, "text": Path(arguments.text).name, "int8_units": units_are_exact()}
    found = [products(*shape, rows, 2 * arguments.repeats) for shape in SHAPES for rows in ROWS]
    record["products"] = found
    print("\n".join(lines_of_products(found)), flush=True)
    loaded = {name: octavo.load(arguments.model, weights=kind) for name, kind in (("fp32", None), ("int8", "int8"))}
    ids = ids_of(loaded["fp32"], text, max(prefill, CHUNK))[:prefill]
    pairs = {arguments.model: {name: model.runner for name, model in loaded.items()}}
    pairs["octavo-s with random weights"] = random_pair(2 * prefill)
    for name, pair in pairs.items():
        sizes = {key: weight_bytes(runner.model) for key, runner in pair.items()}
        speed = speeds(pair, ids, decode=arguments.decode, repeats=arguments.repeats)
        record.setdefault("models", {})[name] = {"weight_bytes": sizes, "speed": speed}
        print("\n".join(lines_of_speed(name, record["models"][name])), flush=True)
    record["quality"] = made = quality(loaded, text, tokens)
    bits = made["bits_per_byte"]
    both = f"{bits['fp32']:.4f} in fp32, {bits['int8']:.4f} in int8"
    print(f"bits per byte: {both}, ratio {made['ratio']:.4f}", flush=True)
    record["recall"] = {"length": prefill, "seeds": arguments.seeds}
    for name, model in loaded.items():
        record["recall"][name] = right = recall(model, prefill, arguments.seeds, arguments.count)
        print(f"facts, {prefill:,} tokens, {name}: {right['right']} of {right['asked']}", flush=True)
    write_json(arguments.out, record)
    print(f"written to {arguments.out}")


if __name__ == "__main__":
    main()
