"""Every tensor of a model under its official checkpoint name. Covers: logical shapes, stored types and bytes.
Not here: sums by part (`counts.py`), reading and writing files (model/checkpoint).

Matrices are [out, in]. A tensor stored in FP8 has a sibling `.scale` of one byte per 128x128 tile; in FP4 two values
share a byte along the input and there is one scale byte per row and 32 inputs (architecture 3.1, 3.2).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, StrEnum
from math import prod

from octavo.config.model import DraftKind, LayerKind, ModelConfig

FP4_GROUP = 32
TILE = 128


class Part(StrEnum):
    """What a parameter belongs to, in the order in which counts are printed."""

    EMBEDDING = "embedding"
    HEAD = "head"
    ATTENTION = "attention"
    COMPRESSOR = "compressor"
    INDEXER = "indexer"
    ROUTER = "router"
    EXPERTS = "experts"
    SHARED = "shared experts"
    HYPER = "hyper-connections"
    NORMS = "norms"
    ENGRAM_TABLE = "engram tables"
    ENGRAM = "engram projections"
    DRAFT = "draft stages"


class Storage(Enum):
    """How a checkpoint stores a tensor; the value is the safetensors tag."""

    BF16 = "BF16"
    F32 = "F32"
    I64 = "I64"
    FP8 = "F8_E4M3"
    FP4 = "I8"


_WIDTH = {Storage.BF16: 2, Storage.F32: 4, Storage.I64: 8, Storage.FP8: 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSpec:
    """One tensor, or `copies` equal ones whose names have `{}` for the expert number."""

    name: str
    shape: tuple[int, ...]
    part: Part
    storage: Storage = Storage.BF16
    copies: int = 1

    @property
    def names(self) -> tuple[str, ...]:
        """The checkpoint names that this entry stands for."""
        return tuple(self.name.format(number) for number in range(self.copies)) if self.copies > 1 else (self.name,)

    @property
    def parameters(self) -> int:
        """Trained values of all copies; lookup tables of integers count none."""
        return 0 if self.storage is Storage.I64 else prod(self.shape) * self.copies

    @property
    def stored_shape(self) -> tuple[int, ...]:
        """Shape in the file: FP4 packs two values into a byte."""
        return (self.shape[0], self.shape[1] // 2) if self.storage is Storage.FP4 else self.shape

    @property
    def scale_shape(self) -> tuple[int, int] | None:
        """Shape of the sibling `.scale`, or None."""
        if self.storage is Storage.FP8:
            return -(-self.shape[0] // TILE), -(-self.shape[1] // TILE)
        return (self.shape[0], self.shape[1] // FP4_GROUP) if self.storage is Storage.FP4 else None

    @property
    def stored_bytes(self) -> int:
        """Bytes of all copies with their scales."""
        width = _WIDTH.get(self.storage, 1)
        return self.copies * (prod(self.stored_shape) * width + prod(self.scale_shape or (0,)))


def tensor_specs(config: ModelConfig) -> Iterator[TensorSpec]:
    """All tensors of a checkpoint of `config`, in file order."""
    d = config.hidden_size
    table = _fp8_if(config.quantization is not None and config.quantization.embeddings)
    yield TensorSpec(name="embed.weight", shape=(config.vocab_size, d), part=Part.EMBEDDING, storage=table)
    for layer, ratio in enumerate(config.layer_ratios):
        yield from _block(config, f"layers.{layer}.", ratio=ratio, hashed=config.is_hash_layer(layer))
        if config.has_engram(layer):
            yield from _engram(config, layer)
    yield TensorSpec(name="norm.weight", shape=(d,), part=Part.NORMS)
    if not config.tie_word_embeddings:
        yield TensorSpec(name="head.weight", shape=(config.vocab_size, d), part=Part.HEAD, storage=table)
    yield from _hyper_head(config, "", Part.HYPER)
    for stage in range(len(config.draft_ratios)):
        yield from _draft_stage(config, stage)


def _fp8_if(quantised: bool) -> Storage:
    return Storage.FP8 if quantised else Storage.BF16


def _dense(config: ModelConfig) -> Storage:
    return _fp8_if(config.quantization is not None)


def _routed(config: ModelConfig) -> Storage:
    return Storage.FP4 if config.expert_dtype == "fp4" else _dense(config)


def _block(
    config: ModelConfig, prefix: str, *, ratio: int, hashed: bool, part: Part | None = None
) -> Iterator[TensorSpec]:
    """One transformer block; `part` overrides the parts (draft stages are counted as a whole)."""
    d, streams = config.hidden_size, config.hc_mult
    for side in ("attn", "ffn"):
        yield TensorSpec(name=f"{prefix}{side}_norm.weight", shape=(d,), part=part or Part.NORMS)
        mixes = 2 * streams + streams * streams
        for name, shape in (("fn", (mixes, streams * d)), ("base", (mixes,)), ("scale", (3,))):
            yield TensorSpec(
                name=f"{prefix}hc_{side}_{name}", shape=shape, part=part or Part.HYPER, storage=Storage.F32
            )
    yield from _attention(config, f"{prefix}attn.", part=part or Part.ATTENTION)
    kind = LayerKind.of(ratio)
    if kind is not LayerKind.WINDOW:
        yield from _compressor(
            config, f"{prefix}attn.compressor.", ratio=ratio, width=config.head_dim, part=Part.COMPRESSOR
        )
    if kind is LayerKind.CSA:
        yield from _indexer(config, f"{prefix}attn.indexer.", ratio=ratio)
    yield from _experts(config, f"{prefix}ffn.", hashed=hashed, part=part)


def _attention(config: ModelConfig, prefix: str, *, part: Part) -> Iterator[TensorSpec]:
    d, heads, width, latent = config.hidden_size, config.num_attention_heads, config.head_dim, config.q_lora_rank
    ranks = config.o_groups * config.o_lora_rank
    dense = _dense(config)
    yield TensorSpec(name=f"{prefix}attn_sink", shape=(heads,), part=part, storage=Storage.F32)
    yield TensorSpec(name=f"{prefix}wq_a.weight", shape=(latent, d), part=part, storage=dense)
    yield TensorSpec(name=f"{prefix}q_norm.weight", shape=(latent,), part=part)
    yield TensorSpec(name=f"{prefix}wq_b.weight", shape=(heads * width, latent), part=part, storage=dense)
    yield TensorSpec(name=f"{prefix}wkv.weight", shape=(width, d), part=part, storage=dense)
    yield TensorSpec(name=f"{prefix}kv_norm.weight", shape=(width,), part=part)
    yield TensorSpec(name=f"{prefix}wo_a.weight", shape=(ranks, config.group_width), part=part, storage=dense)
    yield TensorSpec(name=f"{prefix}wo_b.weight", shape=(d, ranks), part=part, storage=dense)


def _compressor(config: ModelConfig, prefix: str, *, ratio: int, width: int, part: Part) -> Iterator[TensorSpec]:
    """Overlapping CSA compressors make two series, hence twice the width."""
    series = 2 * width if LayerKind.of(ratio) is LayerKind.CSA else width
    for name in ("wkv", "wgate"):
        yield TensorSpec(name=f"{prefix}{name}.weight", shape=(series, config.hidden_size), part=part)
    yield TensorSpec(name=f"{prefix}ape", shape=(ratio, series), part=part, storage=Storage.F32)
    yield TensorSpec(name=f"{prefix}norm.weight", shape=(width,), part=part)


def _indexer(config: ModelConfig, prefix: str, *, ratio: int) -> Iterator[TensorSpec]:
    heads, width = config.index_n_heads, config.index_head_dim
    part = Part.INDEXER
    yield TensorSpec(
        name=f"{prefix}wq_b.weight", shape=(heads * width, config.q_lora_rank), part=part, storage=_dense(config)
    )
    yield TensorSpec(name=f"{prefix}weights_proj.weight", shape=(heads, config.hidden_size), part=part)
    yield from _compressor(config, f"{prefix}compressor.", ratio=ratio, width=width, part=part)


def _experts(config: ModelConfig, prefix: str, *, hashed: bool, part: Part | None) -> Iterator[TensorSpec]:
    d, count, inner = config.hidden_size, config.n_routed_experts, config.moe_intermediate_size
    router = part or Part.ROUTER
    yield TensorSpec(name=f"{prefix}gate.weight", shape=(count, d), part=router)
    if hashed:
        yield TensorSpec(
            name=f"{prefix}gate.tid2eid",
            shape=(config.vocab_size, config.num_experts_per_tok),
            part=router,
            storage=Storage.I64,
        )
    else:
        yield TensorSpec(name=f"{prefix}gate.bias", shape=(count,), part=router, storage=Storage.F32)
    for name in ("w1", "w2", "w3"):
        yield TensorSpec(
            name=f"{prefix}experts.{{}}.{name}.weight" if count > 1 else f"{prefix}experts.0.{name}.weight",
            shape=(d, inner) if name == "w2" else (inner, d),
            part=part or Part.EXPERTS,
            storage=_routed(config),
            copies=count,
        )
    shared = config.shared_intermediate_size
    for name in ("w1", "w2", "w3"):
        yield TensorSpec(
            name=f"{prefix}shared_experts.{name}.weight",
            shape=(d, shared) if name == "w2" else (shared, d),
            part=part or Part.SHARED,
            storage=_dense(config),
        )


def _hyper_head(config: ModelConfig, prefix: str, part: Part) -> Iterator[TensorSpec]:
    streams = config.hc_mult
    shapes = (("fn", (streams, streams * config.hidden_size)), ("base", (streams,)), ("scale", (1,)))
    for name, shape in shapes:
        yield TensorSpec(name=f"{prefix}hc_head_{name}", shape=shape, part=part, storage=Storage.F32)


def _engram(config: ModelConfig, layer: int) -> Iterator[TensorSpec]:
    engram, streams, d = config.engram, config.hc_mult, config.hidden_size
    assert engram is not None
    prefix = f"layers.{layer}.engram."
    yield TensorSpec(
        name=f"{prefix}table.weight", shape=(engram.table_rows(layer), engram.head_dim), part=Part.ENGRAM_TABLE,
        storage=_fp8_if(config.quantization is not None and config.quantization.engram_tables),
    )  # fmt: skip
    shapes = [
        ("wkv.weight", ((streams + 1) * d, engram.memory_dim)),
        ("q_norm.weight", (streams, d)),
        ("k_norm.weight", (streams, d)),
    ]
    if engram.has_conv:
        shapes += [("conv.weight", (streams * d, engram.conv_kernel)), ("conv_norm.weight", (streams, d))]
    for name, shape in shapes:
        yield TensorSpec(name=f"{prefix}{name}", shape=shape, part=Part.ENGRAM)


def _draft_stage(config: ModelConfig, stage: int) -> Iterator[TensorSpec]:
    """Plain MTP: every stage has its projections and head; DSpark: inputs on the first stage, heads on the last."""
    d, prefix, part = config.hidden_size, f"mtp.{stage}.", Part.DRAFT
    dense = _dense(config)
    yield from _block(config, prefix, ratio=config.draft_ratios[stage], hashed=False, part=part)
    if config.mtp_kind is DraftKind.MTP:
        for name in ("e_proj", "h_proj"):
            yield TensorSpec(name=f"{prefix}{name}.weight", shape=(d, d), part=part, storage=dense)
        for name in ("enorm", "hnorm"):
            yield TensorSpec(name=f"{prefix}{name}.weight", shape=(d,), part=part)
    elif stage == 0:
        targets = config.dspark_target_layer_ids or ()
        yield TensorSpec(name=f"{prefix}main_proj.weight", shape=(d, len(targets) * d), part=part, storage=dense)
        yield TensorSpec(name=f"{prefix}main_norm.weight", shape=(d,), part=part)
    last = stage == len(config.draft_ratios) - 1
    if config.mtp_kind is DraftKind.DSPARK and last:
        rank = config.dspark_markov_rank or 0
        for name in ("markov_w1", "markov_w2"):
            yield TensorSpec(name=f"{prefix}markov_head.{name}.weight", shape=(config.vocab_size, rank), part=part)
        yield TensorSpec(name=f"{prefix}confidence_head.proj.weight", shape=(1, d + rank), part=part)
    if config.mtp_kind is DraftKind.MTP or last:
        yield TensorSpec(name=f"{prefix}norm.weight", shape=(d,), part=part)
        yield from _hyper_head(config, prefix, part)
