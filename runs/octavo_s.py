"""`octavo-s` from an empty machine to weights: corpus, tokenizer, pack, training, rest, lessons, rewards, export.

Each step is one command that a user could type; it is printed before it runs, and left out when what it makes is there
already, so that the same line goes on after any stop. The shipped weights came about so, but for this: training was
cut by the machines that were to be had (`octavo-s` for 650 steps, `octavo-s-further` for 1,990, `octavo-s-anneal`,
`octavo-s-fuller` for 3,060), each part began with the weights of the one before as they were stored then (FP8, BF16,
FP4) and a new optimiser, the wordings of linked questions came with the fourth, and `octavo-s-taught` went on from the
rested weights as they had shipped. Rewards run on one GPU; their weights are kept only if they are better.

Covers: the order of the steps and what they are told. Does not cover: what is trained (`octavo.train.recipes`), the
texts (docs/data.md), which `--data` holds: books_train, gsm8k_train and taskmaster_dialogs, each `.jsonl.xz`.

    python -m runs.octavo_s --data DATA --held-out SET ... --work WORK --out weights/octavo-s --device cuda --gpus 2 \
        --minutes 22
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

WORKERS = 14  # of each rank
TASKS = 12_000  # JavaScript to learn from, each run; a core verifies some 20 a second


@dataclass(frozen=True)
class Step:
    """A command, and the file or folder that says that it is done."""

    command: tuple[str, ...]
    made: Path


def steps(options: argparse.Namespace) -> list[Step]:
    """All steps, in order."""
    work, python = options.work, sys.executable
    corpus, tokenizer, pack, trained = (work / name for name in ("corpus", "tokenizer", "pack", "trained"))
    data = (python, "-m", "octavo.data")
    texts = [("--books", "books_train"), ("--gsm8k", "gsm8k_train"), ("--taskmaster", "taskmaster_dialogs")]
    given = [word for flag, name in texts for word in (flag, str(options.data / f"{name}.jsonl.xz"))]
    held = ["--held-out", *map(str, options.held_out)]
    words = tokenizer / "tokenizer.json"
    rested, taught, kept = (work / name for name in ("rested", "taught", "kept"))
    lessons = pack / "javascript.jsonl.xz"
    formats = ("--dense", "--experts", "fp4", "--embeddings", "--engram-tables")
    return [
        Step((*data, "corpus", "--mix", "s", "--out", str(corpus), "--cache", str(work / "cache"), *given, *held),
             corpus / "manifest.json"),
        Step((*data, "tokenizer", "--mix", "s", "--corpus", str(corpus), "--out", str(tokenizer),
              "--vocab-size", "8192"), words),
        Step((*data, "pack", "--mix", "s", "--corpus", str(corpus), "--tokenizer", str(words), "--out", str(pack)),
             pack / "pack.json"),
        Step((*data, "javascript", "--out", str(lessons), "--count", str(TASKS), "--kinds", "write", "repair",
              "predict", "--workers", str(WORKERS)), lessons),
        training("octavo-s", options, pack, tokenizer, trained, ("--minutes", str(options.minutes))),
        training("octavo-s-settled", options, pack, tokenizer, rested, ("--init-from", str(trained / "weights"))),
        training("octavo-s-taught", options, pack, tokenizer, taught, ("--init-from", str(rested / "weights"))),
        Step((python, "-m", "octavo.train.reinforce", "octavo-s-reinforced", "--weights", str(taught / "weights"),
              "--pack", str(pack), "--out", str(work / "reinforced"), "--kept", str(kept), "--device", options.device),
             kept / "model.safetensors.index.json"),
        Step((python, "-m", "octavo.train.export", str(kept), str(options.out), *formats),
             options.out / "model.safetensors.index.json"),
    ]  # fmt: skip


def training(
    name: str, options: argparse.Namespace, pack: Path, tokenizer: Path, out: Path, more: tuple[str, ...]
) -> Step:
    """`octavo train` by a recipe; under torchrun where there are several GPUs."""
    spread = ("-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={options.gpus}")
    return Step(
        (
            sys.executable, *(spread if options.gpus > 1 else ()), "-m", "octavo", "train", name, "--pack", str(pack),
            "--tokenizer", str(tokenizer), "--out", str(out), "--weights", str(out / "weights"),
            "--device", options.device, "--workers", str(WORKERS), *more,
        ),
        out / "weights" / "model.safetensors.index.json",
    )  # fmt: skip


def main(arguments: list[str] | None = None) -> None:
    """Run what is missing; a step that fails ends the run with its exit code."""
    parser = argparse.ArgumentParser(description="octavo-s from an empty machine to its weights.")
    parser.add_argument("--data", type=Path, required=True, help="folder of the three packs that are given by path")
    parser.add_argument("--held-out", type=Path, nargs="+", required=True, help="sets that must not be trained on")
    parser.add_argument("--work", type=Path, required=True, help="folder for everything in between")
    parser.add_argument("--out", type=Path, required=True, help="folder of the weights")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda")
    parser.add_argument("--gpus", type=int, default=1, help="ranks")
    parser.add_argument("--minutes", type=float, required=True, help="of training before the rate falls")
    parser.add_argument("--dry-run", action="store_true", help="print the commands that would run")
    options = parser.parse_args(arguments)
    for step in steps(options):
        if step.made.exists():
            print(f"there: {step.made}", flush=True)
            continue
        print(shlex.join(step.command), flush=True)
        if not options.dry_run:
            done = subprocess.run(step.command, check=False)
            if done.returncode:
                raise SystemExit(done.returncode)


if __name__ == "__main__":
    main()
