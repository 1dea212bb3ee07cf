"""From names to a run of reinforcement learning, and the weights that it leaves where they are kept.

Covers: model, tokenizer, pack, sandbox, device, weights in the release format. Does not cover: the loop itself.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

from octavo.config.model import ModelConfig
from octavo.model.checkpoint import load_weights
from octavo.model.transformer import Transformer
from octavo.sandbox import Limits, Sandbox
from octavo.text.tokenizer import Tokenizer
from octavo.train.reinforce.loop import Options, Result, Show, reinforce
from octavo.train.reinforce.prompts import MixedPrompts
from octavo.train.reinforce.reward import LIMITS, Verifier
from octavo.train.reinforce.settings import Settings
from octavo.train.run import release


def start(
    chosen: Settings, *, weights: Path, pack: Path, options: Options, device: str = "cpu", kept: Path | None = None,
    show: Show | None = None,
) -> Result:  # fmt: skip
    """Train the weights of the folder `weights` by `chosen`, with prose of `pack`. `kept`: folder that gets, once
    the run is finished, the trained weights in the formats of `weights`, or, where the gate does not find them better,
    those that it began with.

    Raises CheckpointError, ConfigError, TextError or UsageError naming what is missing or wrong.
    """
    model, reference = (policy(weights, device) if needed else None for needed in (True, chosen.objective.kl > 0))
    assert model is not None
    tokenizer = Tokenizer.load(weights)
    with Sandbox(LIMITS) as judged, Sandbox(Limits(seconds=2.0)) as built:
        prompts = MixedPrompts(pack, weights / "tokenizer.json", chosen.asked, seed=chosen.seed, sandbox=built)
        judge = Verifier(judged, partial=chosen.partial)
        result = reinforce(
            chosen, model, prompts, judge, tokenizer.decode, options, reference=reference, show=show
        )  # fmt: skip
    if kept is not None and result.verdict is not None:
        _keep(model if result.verdict.keep else None, weights, kept)
    return result


def _keep(model: Transformer | None, weights: Path, folder: Path) -> None:
    """Write a model's weights, or where there is none a copy of the folder that it began with."""
    if model is None:
        shutil.copytree(weights, folder, dirs_exist_ok=True)
    else:
        state = {name: value.detach().cpu() for name, value in model.state_dict().items()}
        release(state, model.config, weights, folder)


def policy(weights: Path, device: str) -> Transformer:
    """A model as it trains: FP32 weights, BF16 arithmetic on a GPU."""
    place = torch.device(device)
    if place.type == "cuda":
        torch.set_float32_matmul_precision("high")
    model = Transformer(ModelConfig.from_json(weights), compute_dtype=torch.bfloat16 if place.type == "cuda" else None)
    load_weights(model, weights, torch.float32)
    return model.to(place)
