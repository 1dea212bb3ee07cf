"""Prefill and decode on one GPU against transformers' `deepseek_v4`: same BF16 weights, same device, same run.

Covers: four layers of DeepSeek-V4-Flash at full width with 32 experts, which is what transformers holds in BF16 and
reads 8,192 tokens of; ours runs the same BF16 weights through its fused kernels. transformers reads in one call and in
chunks, with each of its implementations of the experts; where it runs out of memory the record says so. Each token that
ours makes reaches the host before the next is asked for, as `generate` does it; those of transformers stay on the GPU.
And what a step of ours takes of the host and of the device. Does not cover: FP8 and FP4 weights (`gpu_slice`), the CPU
(`vs_transformers`).

    python -m benchmarks.gpu_vs_transformers [--prefill 8192] [--decode 32] [--repeats 3] [--ours]
"""

from __future__ import annotations

import argparse
import gc
import statistics
import time
from itertools import pairwise
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
from octavo.engine.speculative import Decoding
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

    def decode(self, prompt: Tensor, count: int) -> tuple[float, list[int]]:
        """Seconds of `count` greedy tokens behind `prompt` and the one it gives, its own time left out; all tokens."""
        self.start()
        steps = Decoding(self._runner, self._state, greedy=True)
        steps.begin(prompt.cpu().numpy())
        tokens = [steps.greedy()[0]]
        start = _start()
        for left in range(count - 1, -1, -1):
            steps.next(tokens[-1], most=left)
            tokens.append(steps.greedy()[0])
        torch.cuda.synchronize()
        return time.perf_counter() - start, tokens

    def parts(self, prompt: Tensor, count: int) -> dict[str, float]:
        """Medians over `count` single steps behind `prompt`: of the Python call without waiting for the device
        (host_seconds), with waiting (step_seconds), and of the graph alone, replayed time after time
        (device_seconds)."""
        self.start()
        token, runner, state = self.read(prompt).argmax().view(1), self._runner, self._state
        called, done = [], []
        for _ in range(count):
            ids = token.cpu().numpy()
            start = _start()
            made = runner.step(ids, state, lent=True)
            called.append(time.perf_counter() - start)
            torch.cuda.synchronize()
            done.append(time.perf_counter() - start)
            token = made.logits.argmax().view(1)
        replay = runner.graphs.captured(1, 1, len(state.pages))
        marks = [torch.cuda.Event(enable_timing=True) for _ in range(count + 1)]
        for mark in marks:
            replay()
            mark.record()
        torch.cuda.synchronize()
        alone = [a.elapsed_time(b) / 1e3 for a, b in pairwise(marks)]
        names = ("host_seconds", "step_seconds", "device_seconds")
        return {name: statistics.median(given) for name, given in zip(names, (called, done, alone), strict=True)}


@torch.inference_mode()
def compare(arguments: argparse.Namespace) -> dict[str, Any]:
    """All sides in turn."""
    config = shared_config()
    tensors = random_tensors(config, 0, device="cuda", dtype=torch.bfloat16)
    ids = torch.from_numpy(np.random.default_rng(0).integers(0, config.vocab_size, arguments.prefill)).cuda()
    ours = Ours(config, tensors, arguments.prefill + arguments.decode)
    record: dict[str, Any] = {"ours": {}, "transformers": {}}
    record["ours"] = measure(ours, ids, arguments) | {"step": ours.parts(ids[:2048], arguments.decode)}
    check_tokens(ours, ids[:2048], arguments.decode)
    ours.start()
    wanted = ours.read(ids[:500])
    for experts in () if arguments.ours else EXPERTS:
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


def check_tokens(ours: Ours, prompt: Tensor, count: int) -> None:
    """SystemExit unless steps that are under way before the host knows their token give the tokens of single steps."""
    made = ours.decode(prompt, count)[1]
    ours.start()
    token, wanted = ours.read(prompt).argmax(), list[int]()
    for _ in range(count + 1):
        wanted.append(int(token))
        token = ours.read(token.view(1)).argmax()
    if made != wanted:
        raise SystemExit("decoding a step ahead gave other tokens than single steps; nothing was written")


def measure(side: Ours | Theirs, ids: Tensor, arguments: argparse.Namespace) -> dict[str, Any]:
    """Medians of both, after one run of each that compiles."""
    prefill_seconds(side, ids)
    _decode(side, ids[:2048], 4)
    read = [prefill_seconds(side, ids) for _ in range(arguments.repeats)]
    steps = [_decode(side, ids[:2048], arguments.decode) / arguments.decode for _ in range(arguments.repeats)]
    return {
        "prefill_seconds": statistics.median(read), "decode_seconds_per_token": statistics.median(steps),
        "tokens_per_second": len(ids) / statistics.median(read), "all": {"prefill": read, "decode": steps},
        "peak_bytes": torch.cuda.max_memory_allocated(),
    }  # fmt: skip


def _decode(side: Ours | Theirs, prompt: Tensor, count: int) -> float:
    return side.decode(prompt, count)[0] if isinstance(side, Ours) else decode_seconds(side, prompt, count)


def _start() -> float:
    """The time, once the GPU has done what it was given."""
    gc.collect()
    torch.cuda.synchronize()
    return time.perf_counter()


def main() -> None:
    """Parse, run, print the ratios, write JSON."""
    parser = argparse.ArgumentParser(description="Prefill and decode speed against transformers on a GPU.")
    parser.add_argument("--prefill", type=int, default=8192)
    parser.add_argument("--decode", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--ours", action="store_true", help="leave transformers out")
    parser.add_argument("--out", type=Path, default=RESULTS / "gpu_vs_transformers.json")
    arguments = parser.parse_args()
    record = surroundings(("torch", "triton", "transformers", "octavo")) | {"config": shared_config().to_dict()}
    record |= compare(arguments)
    write_json(arguments.out, record)
    ours = record["ours"]
    print(f"ours: {ours['tokens_per_second']:,.0f} tok/s, {1e3 * ours['decode_seconds_per_token']:.3f} ms a token")
    parts = ", ".join(f"{name} {1e6 * seconds:.0f} us" for name, seconds in ours["step"].items())
    print(f"a single step: {parts}")
    for name, side in record["transformers"].items():
        ratios = [f"{what} {side[f'ratio_{what}']:.1f}" for what in WHAT if what in side]
        print(f"transformers / ours, {name}: {', '.join(ratios) or side['error']}")
    print(f"written to {arguments.out}")


if __name__ == "__main__":
    main()
