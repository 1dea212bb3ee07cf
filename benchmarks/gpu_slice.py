"""A slice of DeepSeek-V4-Flash at full width on one GPU: decoding and reading, against the hardware's bound.

Covers: six layers (two of each kind) with 256 FP4 experts each, FP8 or FP4 entries and FP4 index keys. Decoding: the
whole step as a replayed graph, for batches and contexts over caches of random entries. Reading: chunk after chunk from
an empty cache. Beside each time the bound of counted bytes and FLOPs at rates measured in the same run, and the share
of it; the times of the parts come from the profiler. And what the allocator gives a sequence of the whole model. Does
not cover: correctness (tests/engine/gpu), meaning: weights are random.

    python -m benchmarks.gpu_slice [--decode] [--prefill] [--cache] [--main fp8] [--batches 1 8 32 64] [--contexts 8192]
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.gpu_weights import fill_entries, random_weights
from octavo.bench.bounds import Rates, measure_rates
from octavo.bench.record import write_json
from octavo.bench.surroundings import RESULTS, surroundings
from octavo.bench.timing import Spread
from octavo.cache.layout import PAGE_TOKENS, CacheLayout, RowFormat
from octavo.cache.pool import PagePool
from octavo.cache.slots import ChunkRing, Slots, power_of_two
from octavo.config.model import CSA_RATIO, LayerKind, ModelConfig
from octavo.config.presets import flash
from octavo.engine.gpu.graphs import StepGraphs, StepInput
from octavo.engine.gpu.replay import Captures
from octavo.kernels.paged import Places
from octavo.model.gpu.forward import GpuModel, Step

RATIOS = (0, 0, CSA_RATIO, 128, CSA_RATIO, 128)
ROUNDS = 30
# What a kernel's name says about the part it belongs to, the first that is found.
PARTS = (
    ("experts", ("_up", "_down", "_sum", "_spread", "_top", "_count", "_place", "_choose")),
    ("attention", ("attend_kernel", "OctavoAttend", "combine_kernel", "unpack", "_list", "last_")),
    ("index", ("score_kernel", "select_kernel", "identity_kernel", "_transform")),
    ("compressor", ("close_kernel", "keep_kernel")),
    ("streams", ("_project", "_begin")),
    ("rows", ("_cache_write", "_rotate_out")),
    ("maps", ("_linear", "_product", "_round", "gemm", "cutlass", "nvjet", "_pack", "_ordered")),
)


def slice_config() -> ModelConfig:
    """Flash with two window, two CSA and two HCA layers, the first of them routed by token id."""
    return flash().changed(
        num_hidden_layers=len(RATIOS), compress_ratios=RATIOS, num_hash_layers=1, num_nextn_predict_layers=0,
        quant_sim=True,
    )


class Bench:
    """The model, its pool, and everything that is measured on them."""

    def __init__(self, tokens: int, device: torch.device, rates: Rates, main: RowFormat, index: RowFormat) -> None:
        """`tokens`: of all sequences of the largest batch together."""
        self.config, self.device, self.rates = slice_config(), device, rates
        self.model = GpuModel(self.config, random_weights(self.config, device))
        self.layout = CacheLayout(self.config, main=main, index=index)
        self.pool = PagePool(self.layout, capacity_tokens=tokens, device=device, fixed=True)
        self.slab = self.pool.first_slab()

    def slots(self, count: int, pages: int) -> Slots:
        """Slots whose pages follow each other in the slab."""
        rows = {key: self.slab.rows(key) for key in self.pool.specs}
        slots = Slots(self.layout, rows, self.model.weights.biases, count=count, pages=pages, device=self.device)
        slots.table.copy_(torch.arange(count * pages, dtype=torch.int32).view(count, pages) % self.slab.count)
        return slots

    def decode(self, batch: int, context: int) -> dict[str, Any]:
        """One step of `batch` sequences that hold `context` - 1 tokens each."""
        pages = -(-context // PAGE_TOKENS)
        slots = self.slots(batch, pages)
        graphs = StepGraphs(self.model, slots, Captures.on(self.device))
        given = StepInput(
            tokens=np.arange(batch) * 37 % self.config.vocab_size, slots=np.arange(batch),
            positions=np.full(batch, context - 1),
        )  # fmt: skip
        for _ in range(3):
            result = graphs.run(given, most=1, pages=pages)
        assert bool(torch.isfinite(result.logits).all()), "logits are not finite"
        step = graphs.captured(batch, 1, pages)
        seconds = _timed(step, ROUNDS)
        moved = self._decode_bytes(batch, context)
        bound = sum(moved.values()) / self.rates.bandwidth
        parts = _parts(step, 3)
        return {
            "batch": batch, "context": context, "seconds": seconds.as_dict(), "bound_seconds": bound,
            "share": bound / seconds.median, "bytes": moved, "parts_seconds": parts,
            "allocated_bytes": torch.cuda.memory_allocated(), "peak_bytes": torch.cuda.max_memory_allocated(),
        }  # fmt: skip

    def _decode_bytes(self, batch: int, context: int) -> dict[str, float]:
        """Bytes that a step must read: weights once, experts that are hit on average, each sequence's own rows."""
        w, c, layout = self.model.weights, self.config, self.layout
        weights = float(w.head.nbytes)
        hit = c.n_routed_experts * (1 - (1 - c.num_experts_per_tok / c.n_routed_experts) ** batch)
        experts = 0.0
        for layer in w.layers:
            a = layer.attention
            maps = [m for m in (a.inward, a.queries, a.out_a, a.out_b, a.beside, a.index_queries) if m is not None]
            weights += sum(m.nbytes for m in maps) + layer.experts.gate.nbytes
            weights += layer.attention_in.fn.nbytes + layer.experts_in.fn.nbytes
            experts += layer.experts.routed.bytes_of(1) * hit + layer.experts.shared.bytes_of(1)
        kinds, window = c.layer_kinds, min(context, c.sliding_window)
        csa, hca = kinds.count(LayerKind.CSA), kinds.count(LayerKind.HCA)
        keys = context // CSA_RATIO
        entries = csa * min(keys, c.index_topk) + hca * (context // 128)
        attention = len(kinds) * window * layout.window_row_bytes + entries * layout.row_bytes("main")
        return {
            "maps": weights, "experts": experts, "attention": float(batch * attention),
            "index": float(batch * csa * keys * layout.row_bytes("index")),
        }  # fmt: skip

    def prefill(self, lengths: list[int], chunk: int) -> list[dict[str, Any]]:
        """Read random tokens chunk after chunk -> seconds up to each of `lengths`, beside the bound."""
        most = max(lengths)
        slots, ring = self.slots(1, most // PAGE_TOKENS), ChunkRing(self.layout, chunk, self.device)
        ids = torch.randint(0, self.config.vocab_size, (most,), device=self.device)
        for end in {chunk, *lengths, *(power_of_two(n) for n in range(chunk, most + 1, chunk))}:
            self._chunk(slots, ring, ids, min(end, most) - chunk, chunk)  # kernels are compiled
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        rows, start, bound = [], time.perf_counter(), 0.0
        for first in range(0, most, chunk):
            streams = self._chunk(slots, ring, ids, first, chunk)
            bound += self._chunk_bound(first, chunk)
            if first + chunk in lengths:
                torch.cuda.synchronize()
                seconds = time.perf_counter() - start
                assert bool(torch.isfinite(streams).all()), "streams are not finite"
                rows.append({
                    "tokens": first + chunk, "seconds": seconds, "bound_seconds": bound, "share": bound / seconds,
                    "share_experts_fp8": self._with_fp8_experts(bound, first + chunk) / seconds,
                    "tokens_per_second": (first + chunk) / seconds,
                    "last_chunk_parts_seconds": _parts(lambda at=first: self._chunk(slots, ring, ids, at, chunk), 1),
                    "last_chunk_bound_parts_seconds": self._bound_parts(first, chunk),
                    "peak_bytes": torch.cuda.max_memory_allocated(),
                })  # fmt: skip
                print(_prefill_line(rows[-1]), flush=True)
                start = time.perf_counter() - seconds  # what was measured in between does not count
        return rows

    def _chunk(self, slots: Slots, ring: ChunkRing, ids: torch.Tensor, first: int, count: int) -> torch.Tensor:
        width = min(power_of_two(-(-(first + count) // PAGE_TOKENS)), slots.pages)
        table = slots.table[:, :width].contiguous()
        layers = slots.layers(table)
        position = torch.arange(first, first + count, dtype=torch.int32, device=self.device)
        slot, begin, more = torch.tensor([[0], [first], [count]], device=self.device)
        ring.begin(slot, begin, more, layers[0].ring.length)
        step = Step(ids[first : first + count], Places(torch.zeros_like(position), position), count)
        return self.model.forward(step, layers, chunk=ring)

    def _bound_parts(self, first: int, count: int) -> dict[str, float]:
        """Least seconds of a chunk's parts: FLOPs at the rate of the unit that its operands' formats allow: FP8 for
        maps with FP8 weights and for the index (FP8 or FP4 keys), BF16 for FP4 experts and for attention."""
        c, w = self.config, self.model.weights
        bf16, fp8 = self.rates.peaks["bf16"], self.rates.peaks["fp8"]
        small = wide = 0.0
        for layer in w.layers:
            a = layer.attention
            small += sum(m.weight.numel() for m in (a.inward, a.queries, a.out_b, a.index_queries) if m is not None)
            wide += sum(m.weight.numel() for m in (a.out_a, a.beside) if m is not None) + layer.experts.gate.numel()
        expert = 3 * c.hidden_size * c.moe_intermediate_size * (c.num_experts_per_tok + 1) * len(w.layers)
        mean, key = first + (count + 1) / 2, 4 * c.num_attention_heads * c.head_dim
        kinds, window = c.layer_kinds, min(mean, c.sliding_window)
        csa, hca = kinds.count(LayerKind.CSA), kinds.count(LayerKind.HCA)
        rows = len(kinds) * window + csa * min(mean / CSA_RATIO, c.index_topk) + hca * mean / 128
        scores = csa * mean / CSA_RATIO * 2 * c.index_n_heads * c.index_head_dim
        streams = 2 * len(w.layers) * count * c.hidden_size * 2 * (2 * c.hc_mult + 2)
        return {
            "maps": 2 * count * (small / fp8 + wide / bf16), "experts": 2 * count * expert / bf16,
            "attention": count * rows * key / bf16, "index": count * scores / fp8,
            "streams": streams / self.rates.bandwidth,
        }  # fmt: skip

    def _with_fp8_experts(self, bound: float, tokens: int) -> float:
        """The bound of reading `tokens`, experts at the rate of FP8 instead of BF16: their activations are rounded."""
        experts = self._bound_parts(0, tokens)["experts"]
        return bound - experts * (1 - self.rates.peaks["bf16"] / self.rates.peaks["fp8"])

    def _chunk_bound(self, first: int, count: int) -> float:
        return sum(self._bound_parts(first, count).values())


def cache_bytes(device: torch.device, tokens: int, main: RowFormat, index: RowFormat) -> dict[str, Any]:
    """What the allocator gives one sequence of `tokens` tokens of the whole of Flash, beside what the layout says."""
    config = flash()
    layout = CacheLayout(config, main=main, index=index)
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    pool = PagePool(layout, capacity_tokens=tokens, device=device, fixed=True)
    slab = pool.first_slab()
    pages = torch.cuda.memory_allocated() - before
    bias = {(spec.layer, spec.kind): torch.zeros(1, device=device) for spec in layout.partials}
    rows = {key: slab.rows(key) for key in pool.specs}
    slots = Slots(layout, rows, bias, count=1, pages=slab.count, device=device)
    allocated = torch.cuda.memory_allocated() - before
    return {
        "tokens": tokens, "main": main.value, "index": index.value, "pages_bytes": pages,
        "slot_bytes": allocated - pages, "allocated_bytes": allocated,
        "planned_pages_bytes": layout.paged_bytes(tokens),
        "published_bytes": layout.published_bytes(tokens), "ratio": allocated / layout.published_bytes(tokens),
        "slots_nbytes": slots.nbytes,
    }  # fmt: skip


def _timed(run: Any, rounds: int) -> Spread:
    """Seconds of a call, calls following each other."""
    marks = [torch.cuda.Event(enable_timing=True) for _ in range(rounds + 1)]
    for _ in range(3):
        run()
    marks[0].record()
    for mark in marks[1:]:
        run()
        mark.record()
    torch.cuda.synchronize()
    return Spread.of([a.elapsed_time(b) / 1e3 for a, b in pairwise(marks)])


def _parts(run: Any, times: int) -> dict[str, float]:
    """Seconds of a call by part, from the kernels' names; what overlaps counts twice."""
    from torch.profiler import ProfilerActivity, profile

    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        for _ in range(times):
            run()
        torch.cuda.synchronize()
    parts: dict[str, float] = defaultdict(float)
    for event in seen.key_averages():
        seconds = event.self_device_time_total / 1e6 / times
        part = next((name for name, marks in PARTS if any(mark in event.key for mark in marks)), "other")
        parts[part] += seconds
        if part in ("other", "maps", "index", "attention", "experts"):
            parts[f"{part}: {event.key[:60]}"] += seconds
    return {name: value for name, value in sorted(parts.items(), key=lambda item: -item[1]) if value > 2e-6}


def _prefill_line(row: dict[str, Any]) -> str:
    parts = {name: value for name, value in row["last_chunk_parts_seconds"].items() if ":" not in name}
    text = ", ".join(f"{name} {1e3 * value:.2f}" for name, value in parts.items())
    bounds = ", ".join(f"{name} {1e3 * value:.2f}" for name, value in row["last_chunk_bound_parts_seconds"].items())
    return (
        f"prefill {row['tokens']:>9,}: {row['seconds']:8.3f} s, {row['tokens_per_second']:9,.0f} tok/s, "
        f"{row['share']:.2f} of the bound ({row['share_experts_fp8']:.2f} with experts at "
        f"FP8's rate) | last chunk, ms: {text} | bounds: {bounds}"
    )


def _decode_line(row: dict[str, Any]) -> str:
    parts = {name: value for name, value in row["parts_seconds"].items() if ":" not in name}
    text = ", ".join(f"{name} {1e6 * value:.0f}" for name, value in parts.items())
    return (
        f"decode batch {row['batch']:>3} context {row['context']:>9,}: {1e6 * row['seconds']['median']:8.0f} us, bound "
        f"{1e6 * row['bound_seconds']:7.0f} us, share {row['share']:.2f} | us: {text}"
    )


def main() -> None:
    """Measure what is asked for (all by default), print a line each, write JSON."""
    parser = argparse.ArgumentParser(description="A full-width slice of Flash on one GPU.")
    parser.add_argument("--decode", action="store_true")
    parser.add_argument("--prefill", action="store_true")
    parser.add_argument("--cache", action="store_true")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32, 64])
    parser.add_argument("--contexts", type=int, nargs="+", default=[4096, 8192, 131072, 1048576])
    parser.add_argument("--lengths", type=int, nargs="+", default=[4096, 8192, 32768, 131072, 524288, 1048576])
    parser.add_argument("--chunk", type=int, default=4096)
    parser.add_argument("--main", default="fp8", help="format of the entries: bf16, fp8 or fp4")
    parser.add_argument("--index", default="fp4", help="of the index keys")
    parser.add_argument("--out", type=Path, default=RESULTS / "gpu_slice.json")
    arguments = parser.parse_args()
    every = not (arguments.decode or arguments.prefill or arguments.cache)
    device = torch.device("cuda")
    rates = measure_rates(device)
    print(f"{rates.device}: {rates.bandwidth / 1e12:.2f} TB/s", {k: f"{v / 1e12:.0f}" for k, v in rates.peaks.items()})
    main, index = RowFormat(arguments.main), RowFormat(arguments.index)
    cached = cache_bytes(device, 1 << 20, main, index) if every or arguments.cache else None
    if cached is not None:
        print(
            f"cache of Flash at 1,048,576 tokens: {cached['allocated_bytes'] / 1e9:.3f} GB allocated, "
            f"{cached['published_bytes'] / 1e9:.3f} GB planned, ratio {cached['ratio']:.4f}"
        )
    record: dict[str, Any] = surroundings(("torch", "triton", "octavo")) | {
        "cache": cached, "config": slice_config().to_dict(), "rates": rates.as_dict(), "main": arguments.main,
        "index": arguments.index, "chunk": arguments.chunk,
    }  # fmt: skip
    write_json(arguments.out, record)
    if not (every or arguments.prefill or arguments.decode):
        return print(f"written to {arguments.out}")
    tokens = max(max(arguments.batches) * max(arguments.contexts), max(arguments.lengths))
    bench = Bench(tokens, device, rates, main, index)
    if every or arguments.prefill:
        record["prefill"] = bench.prefill(sorted(arguments.lengths), arguments.chunk)
        write_json(arguments.out, record)
    if every or arguments.decode:
        fill_entries(bench.pool)
        record["decode"] = []
        for batch in arguments.batches:
            for context in arguments.contexts:
                record["decode"].append(bench.decode(batch, context))
                print(_decode_line(record["decode"][-1]), flush=True)
                write_json(arguments.out, record)
    print(f"written to {arguments.out}")


if __name__ == "__main__":
    main()
