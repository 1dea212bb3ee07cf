"""A name for a model's content, so that a folded document is never used with other weights.

Covers: configuration and a sample of every tensor as loaded. Does not cover: MTP blocks, tokenizers
(`Tokenizer.fingerprint`), proof against forgery.
"""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from octavo.config.levels import INDEX_FIELDS
from octavo.config.model import DraftKind, ModelConfig
from octavo.model.offload import stored_tensors
from octavo.model.transformer import Transformer

_FIELDS = ModelConfig.__dataclass_fields__
_EXACT = {name: _FIELDS[name].default for name in INDEX_FIELDS}
_SAMPLE = 1024  # values taken from each tensor, evenly spread: training moves all of them


def model_fingerprint(model: Transformer) -> str:
    """sha256 (hex) over the configuration and, by name, shape, dtype and a sample of every weight.

    The same weights give the same name whatever layout they were stored in, and however the index is searched, and
    whether they are in memory or on disk; another dtype gives another one, since the cached values differ too. An MTP
    block writes nothing that a document holds: with another one, or none, the name is the same.
    """
    config = model.config.changed(quantization=None, expert_dtype=None, **_EXACT)
    if config.mtp_kind is DraftKind.MTP:
        config = config.changed(num_nextn_predict_layers=0, compress_ratios=config.layer_ratios)
    found = hashlib.sha256(config.to_json().encode())
    for name, value in sorted({**model.state_dict(), **dict(stored_tensors(model))}.items()):
        if name.startswith("mtp."):
            continue
        step = max(1, value.shape.numel() // _SAMPLE)
        sample = value.detach().reshape(-1)[::step].cpu() if isinstance(value, Tensor) else value.sample(step)
        sample = sample.double() if sample.is_floating_point() else sample
        found.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        found.update(sample.contiguous().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()
