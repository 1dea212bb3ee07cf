"""Trains one small model in several layouts, as four processes that this file starts, and as one process.

Covers: losses, gradient norms, loads and weights of each layout; checkpoints that one layout writes and others read;
steps in which a rank does not use a parameter. Whatever the layout, a step takes the same four rows one by one, so that
sums over rows differ in their order alone. Usage: python -m tests.support.spread_run OUT
"""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch._dynamo  # what FSDP would import in each process
import torch.distributed as dist
from safetensors.torch import save_file

from octavo.config.model import ModelConfig
from octavo.model.block import Block
from octavo.model.init import init_weights
from octavo.model.transformer import Transformer
from octavo.train import checkpoint as plain
from octavo.train.optim import OptimConfig, Optimizer
from octavo.train.parallel import checkpoint
from octavo.train.parallel.layout import Layout
from octavo.train.parallel.owners import Owners
from octavo.train.parallel.ranks import Ranks, local
from octavo.train.parallel.sharding import shard
from octavo.train.step import Batch, LossWeights, StepReport, recompute_layers, train_step
from tests.support.tiny import tiny_engram
from tests.support.training import plan_of, random_batch, small_config

ROOT = Path(__file__).resolve().parents[2]
ROWS, LENGTH, SHORT, STEPS, SAVED = 4, 256, 64, 5, 3
WHOLE = ("fsdp=2,ep=2", "fsdp=2", "ep=2", "cp=2")  # trained from the first step on
FROM_SPREAD = ("cp=2,ep=2",)  # go on from the checkpoint of the first of them
FROM_PLAIN = ("dp=2,fsdp=2",)  # go on from the checkpoint of one process
UNEVEN = ("fsdp=2,ep=2",)  # take a step that is lopsided
_PATIENCE = timedelta(seconds=120)


def config() -> ModelConfig:
    """Window, CSA and HCA, a hash-routed layer, Engram with a convolution, an MTP block."""
    return small_config(
        compress_ratios=(0, 4, 128, 0), num_nextn_predict_layers=1, num_hash_layers=1,
        hc_sinkhorn_iters=2, engram=tiny_engram("v1", layers=(1,), rows_per_head=31),
    )  # fmt: skip


def begin(ranks: Ranks, *, lopsided: bool = False) -> tuple[Transformer, Optimizer]:
    """The model, spread if the ranks have a mesh, and its optimiser. `lopsided`: tokens go to the first two of the four
    experts alone."""
    model, owners = Transformer(config()), None
    init_weights(model, seed=1)
    for layer in [*model.layers, *model.mtp] if lopsided else []:
        assert isinstance(layer, Block)
        gate = layer.ffn.gate
        if gate.hashed:
            gate.get_buffer("tid2eid").copy_(torch.tensor([0, 1]).expand(32, 2))
        else:
            gate.get_buffer("bias").copy_(torch.tensor([9.0, 9.0, -9.0, -9.0]))
    if ranks.mesh is not None:
        shard(model, ranks.mesh)
        owners = Owners(ranks.mesh.shard_group)
    return model, Optimizer(dict(model.named_parameters()), model.config, OptimConfig(), owners)


def step(
    model: Transformer, optimizer: Optimizer, ranks: Ranks, number: int, lengths: Iterable[int] = (LENGTH,) * ROWS
) -> StepReport:
    """One step on rows of these lengths, each a micro-batch of its own; the ranks share them."""
    rows = [random_batch(1, seed=number * ROWS + i, length=length) for i, length in enumerate(lengths)]
    index, count = ranks.share
    mine = rows[len(rows) * index // count : len(rows) * (index + 1) // count]
    batches = [
        Batch(tokens=b.tokens, weight=b.weight, positions=b.positions, kind=(b.weight >= 1).to(torch.uint8))
        for b in mine
    ]
    return train_step(model, optimizer, batches, plan_of(length=LENGTH), LossWeights(), ranks)


def said(report: StepReport) -> dict[str, float]:
    """What runs are compared by."""
    assert report.mtp_loss is not None
    values = {
        "loss": report.loss, "norm": report.grad_norm, "load": report.max_load, "index": report.index_loss,
        "balance": report.balance, "mtp": report.mtp_loss, "asked": report.asked_by_kind.sum(),
    }  # fmt: skip
    return {name: value.item() for name, value in values.items()}


def run(model: Transformer, optimizer: Optimizer, ranks: Ranks, steps: range) -> list[dict[str, float]]:
    """Several steps; from step `SAVED` on layers are computed again in the backward pass."""
    if SAVED in steps:
        recompute_layers(model)
    return [said(step(model, optimizer, ranks, number)) for number in steps]


def keep(out: Path, name: str, model: Transformer, ranks: Ranks) -> None:
    """Write the whole weights."""
    weights = checkpoint.whole_weights(model, ranks)
    if ranks.first:
        save_file({key: value.contiguous() for key, value in weights.items()}, out / f"{name}.safetensors")


def alone(out: Path) -> dict[str, Any]:
    """One process: a whole run, which saves and keeps its weights, and a lopsided step."""
    ranks = Ranks()
    model, optimizer = begin(ranks)
    found = run(model, optimizer, ranks, range(SAVED))
    plain.save(out / "plain", model, optimizer, step=SAVED, recipe="spread")
    found += run(model, optimizer, ranks, range(SAVED, STEPS))
    keep(out, "alone", model, ranks)
    uneven = said(step(*begin(ranks, lopsided=True), ranks, 0, (LENGTH, LENGTH, SHORT, SHORT)))
    return {"steps": found, "uneven": uneven, "held": sum(p.numel() for p in model.parameters())}


def go_on(out: Path, source: str, model: Transformer, optimizer: Optimizer, ranks: Ranks) -> list[dict[str, float]]:
    """The last steps, from the checkpoint of another run."""
    done = checkpoint.load(out / source, model, optimizer, ranks, recipe="spread", parts={})
    return run(model, optimizer, ranks, range(done, STEPS))


def _whole(out: Path, name: str, ranks: Ranks) -> dict[str, Any]:
    model, optimizer = begin(ranks)
    found = run(model, optimizer, ranks, range(SAVED))
    if name == WHOLE[0]:
        given = {"step": SAVED, "recipe": "spread", "parts": {}}
        checkpoint.save(out / "spread", model, optimizer, ranks, **given)
        keep(out, "saved", model, ranks)
    found += run(model, optimizer, ranks, range(SAVED, STEPS))
    keep(out, name, model, ranks)
    return {"steps": found, "held": sum(local(p.detach()).numel() for p in model.parameters())}


def _in_world(out: Path, name: str, rank: int) -> None:
    """Everything that is done in one layout, by rank `rank` of it."""
    layout, made = Layout.parse(name), {}
    os.environ["WORLD_SIZE"] = str(layout.ranks)
    dist.init_process_group(
        "gloo", init_method=f"file://{out / 'store'}-{name}", rank=rank, world_size=layout.ranks, timeout=_PATIENCE
    )
    ranks, _ = Ranks.join("cpu", layout)
    if name in WHOLE:
        made |= _whole(out, name, ranks)
    for source, names in (("spread", FROM_SPREAD), ("plain", FROM_PLAIN)):
        if name in names:
            model, optimizer = begin(ranks)
            made["later"] = go_on(out, source, model, optimizer, ranks)
            keep(out, name, model, ranks)
    if name in UNEVEN:
        made["uneven"] = said(step(*begin(ranks, lopsided=True), ranks, 0, (LENGTH, LENGTH, SHORT, SHORT)))
    (out / f"{name}-{rank}.json").write_text(json.dumps(made))
    ranks.leave()


def start(out: Path) -> None:
    """Run this file, which starts the four processes, and wait for it."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tests.support.spread_run", str(out)]
    subprocess.run(command, cwd=ROOT, env=environment, check=True, timeout=600)


def main(out: Path, rank: int) -> None:
    """What the process `rank` of four does."""
    for name in dict.fromkeys((*WHOLE, *FROM_SPREAD, *FROM_PLAIN, *UNEVEN)):
        if rank < Layout.parse(name).ranks:
            _in_world(out, name, rank)


if __name__ == "__main__":
    torch.set_num_threads(1)
    forked = multiprocessing.get_context("fork")  # torch is imported once
    processes = [forked.Process(target=main, args=(Path(sys.argv[1]), rank)) for rank in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    sys.exit(max(abs(process.exitcode or 0) for process in processes))
