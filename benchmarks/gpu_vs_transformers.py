"""Prefill and decode on one GPU against transformers' `deepseek_v4`: same BF16 weights, same device, same run.

Covers: four layers of DeepSeek-V4-Flash at full width with 32 experts, which is what transformers holds in BF16 and
reads 8,192 tokens of; ours runs the same BF16 weights through its fused kernels. transformers reads in one call and in
chunks, with each of its implementations of the experts; where it runs out of memory the record says so. Does not cover:
FP8 and FP4 weights (`gpu_slice`), the CPU (`vs_transformers`).

    python -m benchmarks.gpu_vs_transformers [--prefill 8192] [--decode 32] [--repeats 3]
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.vs_transformers import Theirs, decode_seconds, prefill_seconds
from octavo.bench.record import write_json
from octavo.bench.surroundings import RESULTS, surroundings
from octavo.cache.layout import CacheLayout, RowFormat
from octavo.cache.pool import PagePool
from octavo.config.model import ModelConfig
from octavo.config.presets import flash
from octavo.engine.gpu.runner import GpuRunner
from tests.support.tiny import build_model, hf_model, random_tensors

EXPERTS = ("grouped_mm", "eager")
CHUNK = 2048
WHAT = ("prefill_seconds", "decode_seconds_per_token")
AGREE = 0.03  # relative difference of logits, BF16 on both sides


def shared_config() -> ModelConfig:
    """Four layers of Flash with 32 experts, all weights in BF16."""
    return flash().changed(
        num_hidden_layers=4, compress_ratios=(0, 4, 128, 4), n_routed_experts=32, num_hash_layers=1,
        num_nextn_predict_layers=0, vocab_size=32768, quantization=None, expert_dtype=None,
    )  # fmt: skip


class Ours:
    """The fused kernels over a BF16 cache."""

    def __init__(self, config: ModelConfig, tensors: dict[str, Tensor], tokens: int) -> None:
        layout = CacheLayout(config, main=RowFormat.BF16, index=RowFormat.BF16)
        model = build_model(config, tensors, dtype=torch.bfloat16)
        self._runner = GpuRunner(model, PagePool(layout, capacity_tokens=2 * tokens, device="cuda", fixed=True))
        self._state = self._runner.new_state()

    def start(self) -> None:
        """Forget everything."""
        self._state.close()
        self._state = self._runner.new_state()

    def read(self, ids: Tensor) -> Tensor:
        """Logits [V] of the last of `ids`."""
        return self._runner.read_last(ids.cpu().numpy(), self._state).logits[0]


@torch.inference_mode()
def compare(arguments: argparse.Namespace) -> dict[str, Any]:
    """All sides in turn."""
    config = shared_config()
    tensors = random_tensors(config, 0, device="cuda", dtype=torch.bfloat16)
    ids = torch.from_numpy(np.random.default_rng(0).integers(0, config.vocab_size, arguments.prefill)).cuda()
    ours = Ours(config, tensors, arguments.prefill + arguments.decode)
    record: dict[str, Any] = {"ours": {}, "transformers": {}}
    record["ours"] = measure(ours, ids, arguments)
    ours.start()
    wanted = ours.read(ids[:500])
    for experts in EXPERTS:
        model = hf_model(config, tensors, experts=experts)
        for chunk in (None, CHUNK):
            name = f"{experts}, {'one call' if chunk is None else f'chunks of {chunk}'}"
            side = Theirs(model, chunk=chunk)
            try:
                side.start()
                far = float((side.read(ids[:500]).float() - wanted).norm() / wanted.norm())
                record["transformers"][name] = {"relative_difference": far} | (
                    measure(side, ids, arguments) if far < AGREE else {"error": f"logits differ by {far:.3f}"}
                )
            except torch.OutOfMemoryError as error:
                record["transformers"][name] = {"error": f"out of memory: {str(error)[:120]}"}
            print(name, record["transformers"][name], flush=True)
            side.start()
            torch.cuda.empty_cache()
        del model, side
        torch.cuda.empty_cache()
    for side in record["transformers"].values():
        for what in WHAT:
            if what in side:
                side[f"ratio_{what}"] = side[what] / record["ours"][what]
    return record


def measure(side: Ours | Theirs, ids: Tensor, arguments: argparse.Namespace) -> dict[str, Any]:
    """Medians of both, after one run of each that compiles."""
    prefill_seconds(side, ids)
    decode_seconds(side, ids[:2048], 4)
    read = [prefill_seconds(side, ids) for _ in range(arguments.repeats)]
    steps = [decode_seconds(side, ids[:2048], arguments.decode) / arguments.decode for _ in range(arguments.repeats)]
    return {
        "prefill_seconds": statistics.median(read), "decode_seconds_per_token": statistics.median(steps),
        "tokens_per_second": len(ids) / statistics.median(read), "all": {"prefill": read, "decode": steps},
        "peak_bytes": torch.cuda.max_memory_allocated(),
    }  # fmt: skip


def main() -> None:
    """Parse, run, print the ratios, write JSON."""
    parser = argparse.ArgumentParser(description="Prefill and decode speed against transformers on a GPU.")
    parser.add_argument("--prefill", type=int, default=8192)
    parser.add_argument("--decode", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS / "gpu_vs_transformers.json")
    arguments = parser.parse_args()
    record = surroundings(("torch", "triton", "transformers", "octavo")) | {"config": shared_config().to_dict()}
    record |= compare(arguments)
    write_json(arguments.out, record)
    ours = record["ours"]
    print(f"ours: {ours['tokens_per_second']:,.0f} tok/s, {1e3 * ours['decode_seconds_per_token']:.2f} ms a token")
    for name, side in record["transformers"].items():
        ratios = [f"{what} {side[f'ratio_{what}']:.1f}" for what in WHAT if what in side]
        print(f"transformers / ours, {name}: {', '.join(ratios) or side['error']}")
    print(f"written to {arguments.out}")


if __name__ == "__main__":
    main()
