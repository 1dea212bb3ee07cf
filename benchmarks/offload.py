"""Experts on disk beside experts in memory: speed of decoding and reading by the size of the hot set, and what `plan`
predicted for it.

Covers: a random checkpoint (`random_checkpoint`) as a resident FP32 model and with hot sets of several shares of its
experts, all in one process and in turns, so that only ratios count on a shared machine. Files are read past the
system's cache: it is told to forget what was read. The disk's bandwidth is measured between the turns, by reading
matrices of experts in random order with as many threads as a store has. `plan` is given that bandwidth, the rates of
the machine as the store with all experts in memory shows them, and the measured shares of hits and guesses; a second
prediction has to do without those shares. Does not cover: routers that were trained, whose tokens prefer some experts
and whose next choices are harder to guess; `--skew` imitates the first.

    python -m benchmarks.offload [--size 1.2GB] [--shares 100 50 25 10] [--rounds 6] [--skew 0.0] [--no-resident]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.random_checkpoint import expert_bytes, v4_config, write_random
from octavo.bench.record import write_json
from octavo.bench.surroundings import RESULTS, surroundings
from octavo.cache.layout import CacheLayout
from octavo.cache.pool import PagePool
from octavo.cache.state import SequenceState
from octavo.config.hardware import Hardware, HardwareKind
from octavo.config.model import ModelConfig
from octavo.config.sizes import parse_bytes
from octavo.engine.offload_plan import GUESS_SHARE
from octavo.engine.plan import parse_context, plan
from octavo.engine.runner import Runner
from octavo.model.checkpoint import Shards, load_weights
from octavo.model.offload import load_offloaded
from octavo.model.offload_store import READERS, ExpertStore
from octavo.model.transformer import Transformer

PROMPT = 64
_PROBE = 24  # matrices that a measurement of the disk reads
_ENOUGH = 1e18  # a rate that bounds nothing


@dataclass(slots=True)
class Variant:
    """A model in one of the ways, the sequence it decodes, and its store (None: all in memory)."""

    runner: Runner
    state: SequenceState
    store: ExpertStore | None
    share: float | None


def variant(folder: Path, config: ModelConfig, *, share: float | None, total: int, room: int) -> Variant:
    """The resident model (share None), or one with memory for this share of all experts."""
    with torch.device("meta"):
        model = Transformer(config)
    store = None
    if share is None:
        load_weights(model, folder, torch.float32)
    else:
        budget = max(1, round(share * total))
        store = load_offloaded(model, folder, torch.float32, budget_bytes=budget, engram=False)
    runner = Runner(model.eval().requires_grad_(False), PagePool(CacheLayout(config), capacity_tokens=room))
    return Variant(runner, runner.new_state(), store, share)


def disk_bandwidth(store: ExpertStore, shards: Shards, draw: np.random.Generator) -> float:
    """Bytes a second of reading matrices of experts in random order, past the system's cache."""
    every = store.matrices
    chosen = [every[int(n)] for n in draw.choice(len(every), min(_PROBE, len(every)), replace=False)]
    started = time.perf_counter()
    with ThreadPoolExecutor(READERS) as threads:
        got = sum(raw.nbytes for raw in threads.map(lambda matrix: matrix.read(shards), chosen))
    return got / (time.perf_counter() - started)


# -- turns -----------------------------------------------------------------------------------------------------------


def decode(one: Variant, ids: np.ndarray) -> dict[str, Any]:
    """Steps of one token: seconds a token, and what the store counted."""
    if one.store is not None:
        one.store.reset()
    started = time.perf_counter()
    for token in ids:
        one.runner.step(np.array([token]), one.state)
    return _turn(one, time.perf_counter() - started, len(ids))


def read(one: Variant, ids: np.ndarray) -> dict[str, Any]:
    """A text in chunks, on a fresh sequence: seconds a token, and what the store counted."""
    if one.store is not None:
        one.store.reset()
    state = one.runner.new_state()
    started = time.perf_counter()
    one.runner.read(ids, state)
    found = _turn(one, time.perf_counter() - started, len(ids))
    state.close()
    return found


def _turn(one: Variant, seconds: float, tokens: int) -> dict[str, Any]:
    counted = {} if one.store is None else one.store.report.as_dict()
    return {"seconds_per_token": seconds / tokens, "tokens_timed": tokens} | counted


def in_rounds(variants: dict[str, Variant], work: Any, rounds: int, probe: Any) -> tuple[dict[str, Any], list[float]]:
    """Every variant's turns, in alternating order, and the disk's bandwidth before each round and after the last."""
    turns: dict[str, list[dict[str, Any]]] = {name: [] for name in variants}
    disk = []
    for number in range(rounds):
        disk.append(probe())
        for name in list(variants)[:: 1 if number % 2 == 0 else -1]:
            turns[name].append(work(variants[name], number))
    disk.append(probe())
    return {name: summed(own) for name, own in turns.items()}, disk


def summed(turns: list[dict[str, Any]]) -> dict[str, Any]:
    """Median seconds a token, and counts over all turns with the shares that follow from them."""
    tokens = sum(turn["tokens_timed"] for turn in turns)
    seconds = [turn["seconds_per_token"] for turn in turns]
    found: dict[str, Any] = {
        "tokens_per_second": 1 / statistics.median(seconds),
        "seconds_per_token": seconds,
        "tokens_timed": tokens,
    }
    if "hits" not in turns[0]:
        return found
    total = {name: sum(turn[name] for turn in turns) for name in ("hits", "misses", "ahead", "guessed_right", "chosen")}
    found |= total
    found |= {
        "hit_share": total["hits"] / max(1, total["hits"] + total["misses"]),
        "guess_share": total["guessed_right"] / max(1, total["chosen"]),
        "read_bytes_per_token": sum(turn["bytes_read"] for turn in turns) / tokens,
        "wasted_bytes_per_token": sum(turn["bytes_wasted"] for turn in turns) / tokens,
        "wait_seconds_per_token": sum(turn["wait_seconds"] for turn in turns) / tokens,
        "peak_bytes": max(turn["peak_bytes"] for turn in turns),
    }
    return found


# -- predictions -----------------------------------------------------------------------------------------------------


def machine_of(config: ModelConfig, context: int, *, decode_rate: float, read_rate: float, disk: float) -> Hardware:
    """A machine on which `plan` has these rates with all experts in memory."""
    nominal = Hardware(
        name="measured", kind=HardwareKind.CPU, memory_bytes=2**50, reserve_bytes=0, bandwidth=1.0,
        wide_flops=_ENOUGH, fp8_flops=_ENOUGH, disk_bandwidth=disk,
    )  # fmt: skip
    bound = _planned(config, context, nominal, budget=2**49, hits=1.0, guesses=1.0)
    return Hardware(
        name="measured", kind=HardwareKind.CPU, memory_bytes=2**50, reserve_bytes=0,
        bandwidth=decode_rate / bound["decode"], wide_flops=_ENOUGH * read_rate / bound["read"],
        fp8_flops=_ENOUGH * read_rate / bound["read"], disk_bandwidth=disk,
    )  # fmt: skip


def _planned(
    config: ModelConfig, context: int, machine: Hardware, *, budget: int, hits: float | None, guesses: float
) -> dict[str, float]:
    made = plan(
        config, context, machine, weights="fp32", offload_experts=budget, hit_share=hits, guess_share=guesses
    ).offload
    assert made is not None
    return {"decode": made.decode_tokens_per_second, "read": made.prefill_tokens_per_second}


def predict(
    config: ModelConfig, measured: dict[str, Any], one: Variant, machine: Hardware, kind: str, context: int
) -> None:
    """Beside a measured rate: what `plan` says with the measured shares and without, and measured over predicted."""
    assert one.store is not None
    budget = one.store.budget_bytes
    shares = {"hits": measured["hit_share"], "guesses": measured["guess_share"] if kind == "decode" else 1.0}
    for name, given in (("plan", shares), ("plan_without_shares", {"hits": None, "guesses": GUESS_SHARE})):
        rate = _planned(config, context, machine, budget=budget, **given)[kind]
        measured[name] = {"tokens_per_second": rate, "measured_over": measured["tokens_per_second"] / rate}


# -- the whole -------------------------------------------------------------------------------------------------------


def check_equal(variants: dict[str, Variant], ids: np.ndarray) -> None:
    """The same logits bit by bit of all variants, after a prompt and after single tokens; SystemExit otherwise."""
    expected: list[torch.Tensor] = []
    for name, one in variants.items():
        rows = [one.runner.step(ids[:PROMPT], one.state, all_rows=True).logits]
        rows += [one.runner.step(ids[at : at + 1], one.state).logits for at in range(PROMPT, PROMPT + 8)]
        expected = expected or rows
        if not all(torch.equal(a, b) for a, b in zip(rows, expected, strict=True)):
            raise SystemExit(f"{name} gives other logits than {next(iter(variants))}")


def measure(folder: Path, config: ModelConfig, arguments: argparse.Namespace) -> dict[str, Any]:
    """All figures for one checkpoint."""
    layers, chunk = config.num_hidden_layers, parse_context(arguments.prefill)
    total = layers * config.n_routed_experts * expert_bytes(config)
    room, draw = 4 * chunk + 4096, np.random.default_rng(0)
    shares = [None] * arguments.resident + [share / 100 for share in arguments.shares]
    variants = {
        "resident" if share is None else f"{share:.0%}": variant(folder, config, share=share, total=total, room=room)
        for share in shares
    }
    stores = [one.store for one in variants.values() if one.store is not None]
    shards = Shards({matrix.entry.path for matrix in stores[0].matrices})
    ids = draw.integers(16, config.vocab_size, 65536)
    check_equal(variants, ids)
    for one in variants.values():  # hot sets settle
        decode(one, ids[:: 65536 // arguments.warm][: arguments.warm])

    def probe() -> float:
        return disk_bandwidth(stores[0], shards, draw)

    spans = ids.reshape(-1, arguments.decode)
    found: dict[str, Any] = {"expert_bytes": expert_bytes(config), "all_expert_bytes": total}
    made, disk = in_rounds(variants, lambda one, n: decode(one, spans[n]), arguments.rounds, probe)
    found |= {"decode": made, "disk_bytes_per_second": {"decode": disk}}
    texts = ids.reshape(-1, chunk)
    made, disk = in_rounds(variants, lambda one, n: read(one, texts[n]), max(2, arguments.rounds // 2), probe)
    found["read"], found["disk_bytes_per_second"]["read"] = made, disk
    base = next(name for name, one in variants.items() if one.store is not None)
    rates = {kind: found[kind][base]["tokens_per_second"] for kind in ("decode", "read")}
    for kind in ("decode", "read"):
        measured_disk = statistics.median(found["disk_bytes_per_second"][kind])
        machine = machine_of(config, chunk, decode_rate=rates["decode"], read_rate=rates["read"], disk=measured_disk)
        for name, one in variants.items():
            if one.store is not None:
                predict(config, found[kind][name], one, machine, kind, chunk)
    return found


def lines_of(found: dict[str, Any]) -> list[str]:
    """The table for people."""
    lines = []
    for kind in ("decode", "read"):
        disk = statistics.median(found["disk_bytes_per_second"][kind])
        lines.append(f"{kind}, disk {disk / 1e9:.2f} GB/s")
        head = f"{'tokens/s':>10}{'hits':>7}{'guessed':>9}{'MB/token':>10}{'plan':>9}{'ratio':>7}"
        lines.append(f"  {'experts held':<13}{head}")
        for name, row in found[kind].items():
            line = f"  {name:<13}{row['tokens_per_second']:>10.2f}"
            if "plan" in row:
                line += f"{row['hit_share']:>7.0%}{row['guess_share']:>9.0%}{row['read_bytes_per_token'] / 1e6:>10.1f}"
                line += f"{row['plan']['tokens_per_second']:>9.2f}{row['plan']['measured_over']:>7.2f}"
            lines.append(line)
    return lines


def main() -> None:
    """Parse, write a checkpoint, measure, print, write `docs/results/offload.json`."""
    parser = argparse.ArgumentParser(description="Experts on disk beside experts in memory.")
    parser.add_argument("--size", default="1.2GB", help="of the checkpoint, about; resident it takes 7 times as much")
    parser.add_argument(
        "--shares", type=float, nargs="*", default=[100, 50, 25, 10], help="hot sets, %% of all experts"
    )
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--decode", type=int, default=16, help="tokens a turn; a divisor of 65,536")
    parser.add_argument("--prefill", default="2K", help="tokens that are read a turn; a divisor of 65,536")
    parser.add_argument("--warm", type=int, default=64, help="tokens decoded before")
    parser.add_argument("--skew", type=float, default=0.0, help="how far routers prefer some experts")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--resident", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--folder", type=Path, default=None, help="keep the checkpoint there, or use the one there is")
    parser.add_argument("--out", type=Path, default=RESULTS / "offload.json")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    config, record = v4_config(parse_bytes(arguments.size, name="--size")), surroundings()
    with tempfile.TemporaryDirectory(prefix="octavo-offload-") as made:
        folder = arguments.folder or Path(made) / "checkpoint"
        if folder.is_dir():
            config = ModelConfig.from_json(folder)
        else:
            write_random(folder, config, skew=arguments.skew)
        record |= {"layers": config.num_hidden_layers, "experts": config.n_routed_experts, "skew": arguments.skew}
        record |= measure(folder, config, arguments)
    print("\n".join(lines_of(record)))
    write_json(arguments.out, record)
    print(f"written to {arguments.out}")


if __name__ == "__main__":
    main()
