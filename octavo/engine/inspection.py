"""What a folder of weights or a folded document holds, as plain values, without loading a model.

Covers: configuration, counted parameters, files and tokenizer of a model; sources, state and format of a document.
Does not cover: whether every weight is usable, which loading tells.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from octavo.cache.document import FORMAT_VERSION, DocumentReader
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


def inspect_document(path: Path, *, verify: bool = False) -> dict[str, Any]:
    """A document: its texts, how much of them was read, bytes of file and cache, and the model that read them.

    With `verify` every byte is checked. Raises DocumentError for what is missing, damaged or no document.
    """
    reader = DocumentReader.open(path)
    header, layout = reader.header, reader.header.layout
    found = {
        "kind": "document",
        "path": str(path),
        "format": FORMAT_VERSION,
        "complete": reader.complete,
        "tokens": reader.length,
        "planned_tokens": len(reader.planned_tokens),
        "sources": [asdict(source) for source in reader.sources],
        "file_bytes": path.stat().st_size,
        "dropped_bytes": reader.dropped_bytes,
        "cache_bytes": layout.total_bytes(reader.length),
        "rows": {"main": str(layout.main), "index": str(layout.index)},
        "model": {"name": header.model_name, "fingerprint": header.model_fingerprint},
        "tokenizer": {"fingerprint": header.tokenizer_fingerprint},
        "config": layout.config.to_dict(),
    }
    return found | ({"verified_bytes": reader.verify()} if verify else {})
