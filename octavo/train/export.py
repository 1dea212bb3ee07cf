"""From trained weights to the folder that ships: other formats for the matrices, the tokenizer's files beside them.

Covers: `export`, whose folder `octavo read --model` takes, and its command line. Does not cover: rounding
(`octavo.kernels.quant`), files (`octavo.model.checkpoint`), what the rounding costs (`benchmarks.language`,
`octavo eval recall`).

    python -m octavo.train.export .data/run/weights weights/octavo-s --experts fp4 --dense --embeddings --engram-tables
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path

import torch

from octavo.config.errors import OctavoError, UsageError
from octavo.config.model import ModelConfig
from octavo.model.checkpoint import WritePlan, load_weights, save_checkpoint
from octavo.model.transformer import Transformer

QUOTE = {"quote": True}  # most answers in training are copies; `octavo ask --no-quote` lets one use any words


def export(source: Path, folder: Path, plan: WritePlan) -> int:
    """Write the weights in `source` to `folder` as `plan` says; -> bytes of the shards.

    Other files of the folder, such as its model card, stay; the tokenizer's are copied. Raises UsageError when the two
    are one folder, CheckpointError for weights that cannot be read or written.
    """
    if source.resolve() == folder.resolve():
        raise UsageError(f"{folder} is also where the weights come from: rounding twice would be no export")
    config = ModelConfig.from_json(source)
    with torch.device("meta"):
        model = Transformer(config)
    load_weights(model, source, torch.float32)
    save_checkpoint(model, config, folder, plan)
    copy_beside(source, folder)
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))


def copy_beside(source: Path, folder: Path) -> None:
    """The tokenizer's files, and how answers are generated unless the folder says so already."""
    for path in source.glob("tokenizer*.json"):
        shutil.copyfile(path, folder / path.name)
    settings = folder / "generation_config.json"
    if not settings.exists():
        settings.write_text(json.dumps(QUOTE, indent=2) + "\n", "utf-8")


def main(args: list[str] | None = None) -> None:
    """Parse, export, say how large it became."""
    parser = argparse.ArgumentParser(description="Trained weights in the formats in which they ship.")
    parser.add_argument("source", type=Path, help="folder of weights")
    parser.add_argument("folder", type=Path, help="folder to write")
    parser.add_argument("--dense", action="store_true", help="dense matrices in FP8; left out: BF16 throughout")
    parser.add_argument("--experts", choices=("fp8", "fp4"), default="fp8", help="format of routed experts")
    parser.add_argument("--embeddings", action="store_true", help="embedding and head in FP8 too")
    parser.add_argument("--engram-tables", action="store_true", help="Engram's tables in FP8 too")
    chosen = parser.parse_args(args)
    if not chosen.dense and (chosen.embeddings or chosen.engram_tables or chosen.experts == "fp4"):
        parser.error("--experts fp4, --embeddings and --engram-tables need --dense")
    plan = WritePlan(
        dense=chosen.dense, experts_fp4=chosen.experts == "fp4", embeddings=chosen.embeddings,
        engram_tables=chosen.engram_tables,
    )  # fmt: skip
    try:
        size = export(chosen.source, chosen.folder, plan)
    except OctavoError as error:
        sys.exit(str(error))
    print(f"{chosen.folder}: {size / 1e6:.1f} MB of weights")


if __name__ == "__main__":
    main()
