"""Weights on disk. Covers: reading the official and the Hugging Face layout into a model, writing the official one.

Names are in `names.py`, number formats in `formats.py`, the safetensors container in `shard.py`, a folder of shards in
`folder.py`, `load_weights` in `reader.py`, matrices that stay on disk in `matrix.py`, `save_checkpoint` in `writer.py`.
Does not cover: optimiser state, where weights are placed, tokenizers.
"""

from octavo.model.checkpoint import formats
from octavo.model.checkpoint.folder import Stored, open_folder
from octavo.model.checkpoint.matrix import Raw, Shards, StoredMatrix
from octavo.model.checkpoint.reader import DTYPES, LoadReport, load_weights
from octavo.model.checkpoint.writer import WritePlan, save_checkpoint

__all__ = [
    "DTYPES",
    "LoadReport",
    "Raw",
    "Shards",
    "Stored",
    "StoredMatrix",
    "WritePlan",
    "formats",
    "load_weights",
    "open_folder",
    "save_checkpoint",
]
