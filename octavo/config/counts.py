"""Counting parameters and bytes of a configuration. Covers: totals, active counts, parts, the table of shapes.
Not here: the tensors themselves (`tensors.py`), cache and working memory (cache/layout, engine/plan).
"""

from collections import Counter
from dataclasses import dataclass
from functools import lru_cache

from octavo.config.model import ModelConfig
from octavo.config.tensors import Part, Storage, TensorSpec, tensor_specs


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Parameters of a model.

    `main` leaves the draft stages out; `active` is what one token uses of `main`: everything but the embedding table,
    with the chosen experts instead of all and the read rows instead of whole Engram tables. `bytes` is the size of a
    checkpoint's tensors. `by_part` and `bytes_by_part` sum to `total` and `bytes`. Integer lookup tables (`tid2eid`)
    are no parameters; `table_bytes` is their share of `bytes`.
    """

    total: int
    main: int
    draft: int
    active: int
    bytes: int
    table_bytes: int
    by_part: dict[str, int]
    active_by_part: dict[str, int]
    bytes_by_part: dict[str, int]


@lru_cache(maxsize=32)
def count(config: ModelConfig) -> Counts:
    """Count the parameters of `config` (architecture 3.3 for the official sizes)."""
    by_part: Counter[str] = Counter()
    active: Counter[str] = Counter()
    stored: Counter[str] = Counter()
    tables = 0
    for spec in tensor_specs(config):
        by_part[spec.part] += spec.parameters
        active[spec.part] += _active(config, spec)
        stored[spec.part] += spec.stored_bytes
        tables += spec.stored_bytes if spec.storage is Storage.I64 else 0
    total = sum(by_part.values())
    return Counts(
        total=total,
        main=total - by_part[Part.DRAFT],
        draft=by_part[Part.DRAFT],
        active=sum(active.values()),
        bytes=sum(stored.values()),
        table_bytes=tables,
        by_part=_ordered(by_part),
        active_by_part=_ordered(active),
        bytes_by_part=_ordered(stored),
    )


def parameter_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Official tensor name -> logical shape, scales left out; FP4 experts appear unpacked. Includes `tid2eid`."""
    return {name: spec.shape for spec in tensor_specs(config) for name in spec.names}


def stored_tensors(config: ModelConfig) -> dict[str, tuple[str, tuple[int, ...]]]:
    """What a checkpoint of `config` holds: name -> (safetensors tag, shape in the file), `.scale` siblings included."""
    table: dict[str, tuple[str, tuple[int, ...]]] = {}
    for spec in tensor_specs(config):
        for name in spec.names:
            table[name] = (spec.storage.value, spec.stored_shape)
            if spec.scale_shape is not None:
                table[name.removesuffix(".weight") + ".scale"] = ("F8_E8M0", spec.scale_shape)
    return table


def active_bytes(config: ModelConfig) -> dict[str, int]:
    """Bytes of weights that decoding one token reads, as stored, by part; the embedding row is left out."""
    read: Counter[str] = Counter()
    for spec in tensor_specs(config):
        if spec.storage is not Storage.I64 and spec.parameters:
            read[spec.part] += round(spec.stored_bytes * _active(config, spec) / spec.parameters)
    return _ordered(read)


def _active(config: ModelConfig, spec: TensorSpec) -> int:
    if spec.part is Part.EMBEDDING:
        return spec.parameters if config.tie_word_embeddings else 0
    if spec.part is Part.DRAFT:
        return 0
    if spec.part is Part.EXPERTS:
        return spec.parameters // config.n_routed_experts * config.num_experts_per_tok
    if spec.part is Part.ENGRAM_TABLE and config.engram is not None:
        return config.engram.memory_dim
    return spec.parameters


def _ordered(counter: Counter[str]) -> dict[str, int]:
    return {part.value: counter[part] for part in Part if counter[part]}
