"""What a folder of weights or a folded document holds, as plain values, without loading a model.

Covers: configuration, counted parameters, files and tokenizer of a model. Does not cover: whether every value is
usable, which loading tells.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from octavo.config.counts import count
from octavo.config.model import ModelConfig
from octavo.model.checkpoint import open_folder
from octavo.text.tokenizer import Tokenizer


def inspect_model(folder: Path) -> dict[str, Any]:
    """A model folder: layer kinds, context, parameters by part, tensors and bytes by stored type, tokenizer.

    Of the weights only headers are read. Raises ConfigError, CheckpointError or TextError for what is not usable.
    """
    config = ModelConfig.from_json(folder)
    counts, stored, tokenizer = count(config), open_folder(folder), Tokenizer.load(folder)
    types = Counter[str]()
    for entry in stored.entries.values():
        types[entry.tag] += entry.nbytes
    return {
        "kind": "model",
        "path": str(folder),
        "names": "official" if stored.is_official else "hugging face",
        "layers": [kind.name.lower() for kind in config.layer_kinds],
        "engram_layers": [] if config.engram is None else list(config.engram.layers),
        "drafts": str(config.mtp_kind),
        "context": config.max_position_embeddings,
        "parameters": counts.total,
        "active_parameters": counts.active,
        "parameters_by_part": dict(counts.by_part),
        "files": [path.name for path in stored.files],
        "tensors": len(stored.entries),
        "bytes": stored.nbytes,
        "bytes_by_type": dict(types.most_common()),
        "tokenizer": {"vocabulary": tokenizer.vocab_size, "fingerprint": tokenizer.fingerprint},
        "config": config.to_dict(),
    }
