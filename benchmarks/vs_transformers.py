"""Prefill and decode against transformers' `deepseek_v4`: same random weights, same machine, same run, FP32 on the CPU.

Covers: reading a prompt into a cache (logits of the last token only) and greedy decoding behind prompts of several
lengths. Ours reads in chunks on one state. transformers runs with its cache and the fastest of its expert
implementations, and reads the prompt both in one call, as `model(ids)` does, and in chunks, as `generate` does when
given `prefill_chunk_size`; both ratios are recorded. Logits must agree before anything is timed. Does not cover:
accuracy (tests), GPUs.

    python -m benchmarks.vs_transformers [--preset xs] [--prefill 8192] [--prompts 2048 8192] [--decode 64]
        [--repeats 3]
"""

from __future__ import annotations

import argparse
import gc
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from octavo.bench.record import write_json
from octavo.bench.surroundings import RESULTS, surroundings
from octavo.cache.layout import CacheLayout
from octavo.cache.pool import PagePool
from octavo.config.model import ModelConfig
from octavo.config.presets import preset
from octavo.engine.runner import CHUNK, Runner
from octavo.model.transformer import Transformer
from tests.support.tiny import build_model, hf_model, random_tensors

EXPERTS = ("eager", "grouped_mm")


def shared_config(name: str = "xs") -> ModelConfig:
    """The geometry of a preset without what transformers lacks (Engram, MTP, stored FP8)."""
    config = preset(name)
    return config.changed(
        engram=None, quantization=None, expert_dtype=None, num_nextn_predict_layers=0,
        compress_ratios=config.layer_ratios,
    )  # fmt: skip


class Ours:
    """Our model on one growing state, read and decoded as the engine does it."""

    def __init__(self, model: Transformer) -> None:
        self._runner = Runner(model, PagePool(CacheLayout(model.config), capacity_tokens=16384))
        self._state = self._runner.new_state()

    def start(self) -> None:
        """Forget everything."""
        self._state.close()
        self._state = self._runner.new_state()

    def read(self, ids: Tensor) -> Tensor:
        """Logits [V] of the last of `ids`."""
        return self._runner.read_last(ids.numpy(), self._state).logits[0]


class Theirs:
    """transformers with its own cache; `chunk` None reads in one call."""

    def __init__(self, model: Any, *, chunk: int | None) -> None:
        self._model, self._cache, self._chunk = model, None, chunk

    def start(self) -> None:
        """Forget everything."""
        from transformers import DynamicCache

        self._cache = DynamicCache(config=self._model.config)

    def read(self, ids: Tensor) -> Tensor:
        """Logits [V] of the last of `ids`."""
        logits = torch.empty(0)
        for part in ids.split(self._chunk or len(ids)):
            out = self._model(part.unsqueeze(0), past_key_values=self._cache, use_cache=True, logits_to_keep=1)
            logits = out.logits[0, -1]
        return logits


class Side(Protocol):
    """What is measured: it forgets everything, and reads on."""

    def start(self) -> None: ...

    def read(self, ids: Tensor) -> Tensor: ...


Seconds = dict[str, list[float]]


def prefill_seconds(side: Side, ids: Tensor) -> float:
    """Time of reading `ids` from nothing."""
    side.start()
    return _seconds(lambda: side.read(ids))


def decode_seconds(side: Side, prompt: Tensor, count: int) -> float:
    """Time of `count` greedy tokens behind `prompt`, the prompt's own time left out."""
    side.start()
    token = side.read(prompt).argmax()

    def go() -> None:
        nonlocal token
        for _ in range(count):
            token = side.read(token.view(1)).argmax()

    return _seconds(go)


def _seconds(action: Callable[[], object]) -> float:
    gc.collect()
    _wait()
    start = time.perf_counter()
    action()
    _wait()
    return time.perf_counter() - start


def _wait() -> None:
    """Until a GPU, where one is in use, has done what it was given."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


@torch.inference_mode()
def compare(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run all sides in turn; seconds of every repeat, medians and ratios."""
    config = shared_config(arguments.preset)
    tensors = random_tensors(config, 0)
    length = max(arguments.prefill, *arguments.prompts)
    ids = torch.randint(0, config.vocab_size, (length,), generator=torch.Generator().manual_seed(0))
    ours = Ours(build_model(config, tensors))
    models = {name: hf_model(config, tensors, experts=name) for name in EXPERTS}
    one_call = {name: Theirs(model, chunk=None) for name, model in models.items()}
    chunked = {name: Theirs(model, chunk=CHUNK) for name, model in models.items()}
    record: dict[str, Any] = {"max_logit_difference_at_300": check_agreement(ours, one_call, ids[:300])}
    for side in (ours, *one_call.values()):  # compiling, and whatever else is done once
        decode_seconds(side, ids[: CHUNK + 64], 4)
    for _ in range(arguments.repeats):
        for kind, rivals in (("one_call", one_call), ("chunked", chunked)):
            seconds = record.setdefault("prefill", {}).setdefault(kind, {})
            run_all(
                seconds, rivals, ours, f"prefill {kind}", lambda side: prefill_seconds(side, ids[: arguments.prefill])
            )
        for prompt in arguments.prompts:
            seconds = record.setdefault("decode", {}).setdefault(f"after_{prompt}", {})
            run_all(
                seconds,
                chunked,
                ours,
                f"decode after {prompt}",
                lambda side, n=prompt: decode_seconds(side, ids[:n], arguments.decode),
            )
    record["prefill"] = {name: summary(part, arguments.prefill) for name, part in record["prefill"].items()}
    record["decode"] = {name: summary(part, arguments.decode) for name, part in record["decode"].items()}
    return record


def run_all(
    seconds: Seconds, rivals: dict[str, Theirs], ours: Ours, label: str, measure: Callable[[Side], float]
) -> None:
    """One repeat of one measurement on every side, added to `seconds`."""
    for name, side in {"ours": ours, **rivals}.items():
        seconds.setdefault(name, []).append(measure(side))
        print(f"{label:>20} {name:>10}: {seconds[name][-1]:8.3f} s", flush=True)


def check_agreement(ours: Ours, rivals: dict[str, Theirs], ids: Tensor) -> float:
    """Largest difference of last-token logits before any entry is dropped; an error above 1e-3."""
    ours.start()
    expected, worst = ours.read(ids), 0.0
    for name, rival in rivals.items():
        rival.start()
        worst = max(worst, float((rival.read(ids) - expected).abs().max()))
        if worst > 1e-3:
            raise SystemExit(f"logits differ from transformers ({name}) by {worst:.2e}; nothing was timed")
    return worst


def summary(seconds: Seconds, tokens: int) -> dict[str, Any]:
    """Medians; the rival is the fastest expert implementation of transformers."""
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    best = min(EXPERTS, key=lambda name: medians[name])
    return {
        "tokens": tokens,
        "ours_seconds": medians["ours"],
        "transformers_seconds": medians[best],
        "transformers_experts": best,
        "ratio": medians[best] / medians["ours"],
        "ours_tokens_per_second": tokens / medians["ours"],
        "transformers_tokens_per_second": tokens / medians[best],
        "all_seconds": seconds,
    }


def main() -> None:
    """Parse, run, print the ratios, write `docs/results/vs_transformers.json`."""
    parser = argparse.ArgumentParser(description="Prefill and decode speed against transformers.")
    parser.add_argument("--preset", default="xs", help="a preset whose model fits in memory: xs or s")
    parser.add_argument("--prefill", type=int, default=8192)
    parser.add_argument("--prompts", type=int, nargs="+", default=[2048, 8192])
    parser.add_argument("--decode", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=0, help="0 keeps torch's choice")
    parser.add_argument("--out", type=Path, default=RESULTS / "vs_transformers.json")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    where = surroundings(("torch", "transformers", "octavo"))
    record = where | {"config": shared_config(arguments.preset).to_dict(), "dtype": "float32"} | compare(arguments)
    write_json(arguments.out, record)
    for part in ("prefill", "decode"):
        for name, r in record[part].items():
            print(
                f"{part} {name}, {r['tokens']} tokens: ours {r['ours_tokens_per_second']:.0f}/s, transformers"
                f" {r['transformers_tokens_per_second']:.0f}/s ({r['transformers_experts']}), ratio {r['ratio']:.2f}"
            )
    print(f"written to {arguments.out}")


if __name__ == "__main__":
    main()
