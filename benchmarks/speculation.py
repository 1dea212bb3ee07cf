"""Decoding with and without drafts of the MTP block: how long accepted runs are, and what they save.

Covers: for each number of drafts, pairs of runs that make the same tokens behind the same context, plain, drafted,
drafted, plain; the clock runs while tokens are made, not while the context is read. Tokens must be equal, or nothing is
written. A round is one step of the model with the drafts made for it; what it costs over a plain step says how many
drafts must be accepted a round before they pay. Without `--model` that cost is all there is to learn: the model is the
preset `s` with random weights, and a predictor that has learned nothing is right by chance alone. Does not cover:
prompts, batches.

On the CPU in FP32. With `--device cuda` the costs of rounds alone, on random weights in BF16 of the preset `s` or of a
slice of Flash (four layers at full width, 32 experts, and its MTP block): random weights accept nothing, and their
closest logits are rounded apart in steps of several tokens, so that tokens may differ and none is made again. A plain
step there is one of greedy decoding that is a step ahead of the host. Beside a round stand the seconds of its parts:
drafting, and a step of as many tokens as it verifies. A slice has fewer layers over which its MTP block is spread than
the whole model; the parts say what a deeper one would take.

    python -m benchmarks.speculation [--model FOLDER] [--draft 1 2 3 5 7] [--context 2K] [--tokens 96] [--pairs 4]
    python -m benchmarks.speculation --device cuda [--preset s|slice] [--draft 1 2 3]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch

import octavo
from octavo.bench.record import write_json
from octavo.bench.surroundings import RESULTS, surroundings
from octavo.cache.layout import PAGE_TOKENS, CacheLayout, RowFormat
from octavo.cache.pool import PagePool
from octavo.cache.state import SequenceState
from octavo.config.model import ModelConfig
from octavo.config.presets import flash, preset
from octavo.engine.plan import parse_context
from octavo.engine.request import Request
from octavo.engine.runner import Runner
from octavo.engine.sampler import Sampler
from octavo.engine.speculative import Decoding
from octavo.evals.texts import SHAKESPEARE, filler
from octavo.model.init import init_weights
from octavo.model.transformer import Transformer
from tests.support.tiny import build_model, random_tensors

DRAFTS = {"cpu": [1, 2, 3, 5, 7], "cuda": [1, 2, 3]}
PROMPT = 128  # tokens of the context that every run reads itself: the predictor begins with their rows


def random_runner(capacity: int) -> Runner:
    """The preset `s` with random weights, those that training begins with at zero included."""
    config = preset("s")
    model = Transformer(config)
    init_weights(model, seed=0)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1 and not weight.any():
                weight.copy_(torch.randn(weight.shape, generator=generator) * weight.shape[-1] ** -0.5)
    model = model.eval().requires_grad_(False)
    return Runner(model, PagePool(CacheLayout(config), capacity_tokens=capacity), name="octavo-s with random weights")


def slice_config() -> ModelConfig:
    """Four layers of Flash and an MTP block, 32 experts, all weights in BF16."""
    return flash().changed(
        num_hidden_layers=4, compress_ratios=(0, 4, 128, 4, 0), n_routed_experts=32, num_hash_layers=1,
        num_nextn_predict_layers=1, vocab_size=32768, quantization=None, expert_dtype=None,
    )  # fmt: skip


def gpu_runner(config: ModelConfig, name: str, capacity: int, device: str) -> Runner:
    """Random weights through the fused kernels."""
    from octavo.engine.gpu.runner import GpuRunner  # loads triton

    model = build_model(config, random_tensors(config, 0, device=device, dtype=torch.bfloat16), dtype=torch.bfloat16)
    layout = CacheLayout(config, main=RowFormat.BF16, index=RowFormat.BF16)
    pool = PagePool(layout, capacity_tokens=capacity, device=device, fixed=True)
    return GpuRunner(model.requires_grad_(False), pool, name=f"{name} with random weights")


def context_of(options: argparse.Namespace, tokens: int, capacity: int) -> tuple[Runner, np.ndarray]:
    """The model and ids [tokens]: the beginning of the plays, or random ones where there is no tokenizer."""
    if options.model is not None:
        llm = octavo.load(options.model, capacity_tokens=capacity)
        ids = [llm.tokenizer.special("BOS"), *llm.tokenizer.encode(filler(SHAKESPEARE)[: 8 * tokens])]
        return llm.runner, np.array(ids[:tokens])
    if options.device == "cpu":
        runner = random_runner(capacity)
    else:
        config = preset("s") if options.preset == "s" else slice_config()
        runner = gpu_runner(config, options.preset, capacity, options.device)
    return runner, np.random.default_rng(0).integers(16, runner.model.config.vocab_size, tokens)


def make(
    runner: Runner, before: SequenceState, prompt: np.ndarray, request: Request
) -> tuple[list[int], float, Decoding]:
    """Tokens, the seconds behind the first, and the counts of one run behind `before`; no token ends it."""
    greedy = request.temperature == 0 and not request.draft
    with closing(before.fork()) as state:
        steps, sampler, tokens = Decoding(runner, state, draft=request.draft, greedy=greedy), Sampler(request), []
        row = steps.begin(prompt)
        _wait()
        start = time.perf_counter()
        while True:
            tokens.append(steps.greedy()[0] if greedy else sampler.pick(row.logits[0]))
            if len(tokens) == request.max_tokens:
                seconds = time.perf_counter() - start
                steps.close()
                return tokens, seconds, steps
            row = steps.next(tokens[-1], most=request.max_tokens - len(tokens) - 1)


def compare(
    runner: Runner, before: SequenceState, prompt: np.ndarray, draft: int, options: argparse.Namespace
) -> dict[str, Any]:
    """Figures of one number of drafts. SystemExit when the tokens differ, but on a GPU, where they may."""
    fields = {"max_tokens": options.tokens, "temperature": options.temperature, "seed": 1}
    plain, drafted = (Request(draft=count, **fields) for count in (0, draft))
    for request in (plain, drafted):
        make(runner, before, prompt, request)  # pays for compiling
    pairs = []
    for _ in range(options.pairs):
        runs = [make(runner, before, prompt, request) for request in (plain, drafted, drafted, plain)]
        if options.device == "cpu" and any(tokens != runs[0][0] for tokens, *_ in runs):
            raise SystemExit(f"{draft} drafts gave other tokens than none; nothing was written")
        pairs.append([seconds for _, seconds, _ in runs])
    steps = runs[1][2]
    return figures(draft, options.tokens, pairs, steps=steps.steps, drafted=steps.drafted, accepted=steps.accepted)


def parts(runner: Runner, before: SequenceState, prompt: np.ndarray, draft: int, rounds: int) -> dict[str, float]:
    """Median seconds of `draft` drafts behind one row, until the host has them, and of a step of one token more than
    those with its rollback, until the device has done it. Random weights accept nothing: this is the usual round."""
    drafting, verifying = [], []
    with closing(before.fork()) as state:
        proposer, streams = runner.drafter(), runner.read_last(prompt, state).streams[-1:]
        for _ in range(rounds):
            _wait()
            start = time.perf_counter()
            made = proposer.propose(streams, [int(prompt[0])], first=state.length - 1, count=draft)
            drafting.append(time.perf_counter() - start)
            start = time.perf_counter()
            streams = runner.step(np.array([int(prompt[1]), *made]), state, all_rows=True).streams[:1]
            state.rollback(draft)
            _wait()
            verifying.append(time.perf_counter() - start)
    return {"draft_seconds": statistics.median(drafting), "verify_seconds": statistics.median(verifying)}


def _wait() -> None:
    """Until a GPU, where one is in use, has done what it was given."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def figures(
    draft: int, tokens: int, pairs: Sequence[Sequence[float]], *, steps: int, drafted: int, accepted: int
) -> dict[str, Any]:
    """The record of seconds [pairs, 4] of runs that made `tokens` tokens each; ratios are medians over pairs.

    tokens_per_round: accepted drafts and the token that the model chose behind them. round_over_step: what a round
    costs in plain steps. break_even: drafts that must be accepted a round for rounds to cost what they save.
    """
    plain_steps = tokens - 1
    speed = [(a + d) / (b + c) for a, b, c, d in pairs]
    rounds = [((b + c) / steps) / ((a + d) / plain_steps) for a, b, c, d in pairs]
    return {
        "draft": draft,
        "tokens": tokens,
        "rounds": steps,
        "drafted": drafted,
        "accepted": accepted,
        "acceptance": accepted / drafted if drafted else 0.0,
        "tokens_per_round": plain_steps / steps,
        "plain_tokens_per_second": plain_steps / statistics.median((a + d) / 2 for a, _, _, d in pairs),
        "drafted_tokens_per_second": plain_steps / statistics.median((b + c) / 2 for _, b, c, _ in pairs),
        "speed_ratio": statistics.median(speed),
        "speed_ratio_least_most": [min(speed), max(speed)],
        "round_over_step": statistics.median(rounds),
        "break_even": statistics.median(rounds) - 1,
        "seconds": [list(pair) for pair in pairs],
    }


def table(records: list[dict[str, Any]]) -> str:
    """The records as lines for people."""
    lines = [
        f"{'drafts':>6} {'accepted':>14} {'tokens/round':>12} {'plain t/s':>9} {'drafted t/s':>11} {'ratio':>6} "
        f"{'round/step':>10} {'break-even':>10}"
    ]
    for r in records:
        accepted = f"{r['accepted']} of {r['drafted']}"
        lines.append(
            f"{r['draft']:>6} {accepted:>14} {r['tokens_per_round']:>12.2f} {r['plain_tokens_per_second']:>9.1f} "
            f"{r['drafted_tokens_per_second']:>11.1f} {r['speed_ratio']:>6.2f} {r['round_over_step']:>10.2f} "
            f"{r['break_even']:>10.2f}"
        )
    return "\n".join(lines)


def gains(records: list[dict[str, Any]]) -> str:
    """What a round would win over plain steps, for each number of accepted drafts a round: (1 + accepted) / cost."""
    lines = ["drafts  ms drafting  ms verifying  speed-up where so many of a round's drafts are accepted on average"]
    for r in records:
        halves = [half / 2 for half in range(2 * r["draft"] + 1)]
        won = ", ".join(f"{accepted:g}: {(1 + accepted) / r['round_over_step']:.2f}" for accepted in halves)
        lines.append(f"{r['draft']:>6} {1e3 * r['draft_seconds']:>12.3f} {1e3 * r['verify_seconds']:>13.3f}  {won}")
    return "\n".join(lines)


def main() -> None:
    """Parse, run, print the table, write `docs/results/speculation.json`."""
    parser = argparse.ArgumentParser(description="Decoding with and without drafts.")
    parser.add_argument("--model", help="shipped model, folder or hub id; left out: octavo-s with random weights")
    parser.add_argument("--device", choices=list(DRAFTS), default="cpu")
    parser.add_argument("--preset", choices=["s", "slice"], default="slice", help="random weights of a GPU")
    parser.add_argument("--draft", nargs="+", type=int, help="default: 1 2 3 5 7, on a GPU 1 2 3")
    parser.add_argument("--context", default="2K", help="tokens before the answer, as 4096 or 32K")
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--temperature", type=float, default=0.0)
    parser.add_argument("--pairs", type=int, default=4)
    parser.add_argument("--threads", type=int, default=0, help="0 keeps torch's choice")
    parser.add_argument("--out", type=Path, default=RESULTS / "speculation.json")
    options = parser.parse_args()
    if options.device == "cuda" and options.model is not None:
        parser.error("--device cuda measures random weights; leave --model out")
    if options.threads:
        torch.set_num_threads(options.threads)
    context = parse_context(options.context)
    runner, ids = context_of(options, context, context + 2 * options.tokens + 4 * PAGE_TOKENS)
    dtype = str(runner.model.embed.weight.dtype).removeprefix("torch.")
    record = surroundings() | {
        "model": runner.name, "dtype": dtype, "context": context, "temperature": options.temperature,
    }  # fmt: skip
    with closing(runner.new_state()) as before:
        runner.read(ids[:-PROMPT], before)
        record["drafts"] = []
        for draft in options.draft or DRAFTS[options.device]:
            record["drafts"].append(compare(runner, before, ids[-PROMPT:], draft, options))
            if options.device == "cuda":
                record["drafts"][-1] |= parts(runner, before, ids[-PROMPT:], draft, options.tokens)
            print(f"{draft} drafts: {record['drafts'][-1]['speed_ratio']:.2f}", file=sys.stderr, flush=True)
    write_json(options.out, record)
    print(table(record["drafts"]))
    if options.device == "cuda":
        print(f"random weights accept nothing: of {runner.name} these are costs, not speeds of answers")
        print(gains(record["drafts"]))
    print(f"written to {options.out}")


if __name__ == "__main__":
    main()
