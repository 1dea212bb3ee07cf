"""The model's configuration, under the names of the official `config.json`.

Covers: fields, defaults, values derived from them. Not here: limits (`checks.py`), file spellings (`official.py`),
concrete sizes (`presets.py`), counting (`counts.py`).
"""

from dataclasses import dataclass, replace
from enum import Enum, StrEnum
from os import PathLike
from typing import Any

from octavo.config.checks import check_config
from octavo.config.engram import EngramConfig
from octavo.config.errors import ConfigError
from octavo.config.levels import Levels

CSA_RATIO = 4


class LayerKind(Enum):
    """What a layer's attention sees besides its sliding window."""

    WINDOW = "window"
    CSA = "csa"
    HCA = "hca"

    @classmethod
    def of(cls, ratio: int) -> "LayerKind":
        """Kind of a compression ratio: 0 window only, 4 chosen entries (indexer), more: all entries."""
        if ratio == 0:
            return cls.WINDOW
        return cls.CSA if ratio == CSA_RATIO else cls.HCA


class DraftKind(StrEnum):
    """What `mtp.*` holds: nothing, plain multi-token prediction, or DSpark draft stages."""

    NONE = "none"
    MTP = "mtp"
    DSPARK = "dspark"


@dataclass(frozen=True, slots=True, kw_only=True)
class YarnConfig:
    """YaRN frequency scaling of the compressed layers; no amplitude factor (architecture: cos/sin times 1)."""

    factor: float = 16.0
    original_max_position_embeddings: int = 65536
    beta_fast: float = 32.0
    beta_slow: float = 1.0

    def __post_init__(self) -> None:
        _whole_to_float(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizationConfig:
    """How a checkpoint stores its FP8 matrices: e4m3 with one power-of-two scale per tile.

    `embeddings` and `engram_tables` are ours: embedding and head, or Engram's tables, are stored so too (official
    checkpoints keep the first in BF16).
    """

    fmt: str = "e4m3"
    scale_fmt: str = "ue8m0"
    activation_scheme: str = "dynamic"
    weight_block_size: tuple[int, int] = (128, 128)
    embeddings: bool = False
    engram_tables: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """A DeepSeek-V4 model; every field is checked on construction (ConfigError).

    `compress_ratios` has one entry per decoder layer, then one per draft stage. For plain MTP the trailing entries may
    be left out and are filled with 0. `head_dim` counts the rope part, which is its last `qk_rope_head_dim` channels.
    `swiglu_limit` None: the experts' activation has no clamp.
    """

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    compress_ratios: tuple[int, ...]
    num_attention_heads: int
    head_dim: int
    qk_rope_head_dim: int
    q_lora_rank: int
    o_groups: int
    o_lora_rank: int
    sliding_window: int = 128
    index_n_heads: int
    index_head_dim: int
    index_topk: int
    n_routed_experts: int
    num_experts_per_tok: int
    n_shared_experts: int = 1
    moe_intermediate_size: int
    num_hash_layers: int
    scoring_func: str = "sqrtsoftplus"
    topk_method: str = "noaux_tc"
    norm_topk_prob: bool = True
    routed_scaling_factor: float
    swiglu_limit: float | None = 10.0
    hc_mult: int = 4
    hc_sinkhorn_iters: int = 20
    hc_eps: float = 1e-6
    rms_norm_eps: float = 1e-6
    rope_theta: float = 10000.0
    compress_rope_theta: float = 160000.0
    rope_scaling: YarnConfig | None = None
    max_position_embeddings: int = 1048576
    num_nextn_predict_layers: int = 0
    tie_word_embeddings: bool = False
    bos_token_id: int = 0
    eos_token_id: int = 1
    pad_token_id: int | None = None
    expert_dtype: str | None = None
    quantization: QuantizationConfig | None = None
    dspark_block_size: int | None = None
    dspark_markov_rank: int | None = None
    dspark_noise_token_id: int | None = None
    dspark_target_layer_ids: tuple[int, ...] | None = None
    engram: EngramConfig | None = None
    index_levels: int = 1
    index_block_tokens: int = 4
    index_blocks: int = 1024
    index_from_tokens: int = 262144
    quant_sim: bool = False

    def __post_init__(self) -> None:
        for name in ("compress_ratios", "dspark_target_layer_ids"):
            if isinstance(getattr(self, name), list):
                object.__setattr__(self, name, tuple(getattr(self, name)))
        _whole_to_float(self)
        ratios, stages = self.compress_ratios, self.num_nextn_predict_layers
        short = isinstance(ratios, tuple) and len(ratios) == self.num_hidden_layers
        if short and self.dspark_block_size is None and type(stages) is int:
            object.__setattr__(self, "compress_ratios", ratios + (0,) * stages)
        check_config(self)

    @property
    def layer_ratios(self) -> tuple[int, ...]:
        """Compression ratio of each decoder layer: [num_hidden_layers]."""
        return self.compress_ratios[: self.num_hidden_layers]

    @property
    def draft_ratios(self) -> tuple[int, ...]:
        """Compression ratio of each draft stage (`mtp.0`, `mtp.1`, ...)."""
        return self.compress_ratios[self.num_hidden_layers :]

    @property
    def layer_kinds(self) -> tuple[LayerKind, ...]:
        """Kind of each decoder layer: [num_hidden_layers]."""
        return tuple(LayerKind.of(ratio) for ratio in self.layer_ratios)

    @property
    def mtp_kind(self) -> DraftKind:
        """What the draft stages are; decided by the DSpark fields, never by the prefix of tensor names."""
        if not self.draft_ratios:
            return DraftKind.NONE
        return DraftKind.MTP if self.dspark_block_size is None else DraftKind.DSPARK

    @property
    def levels(self) -> Levels | None:
        """How an index of two levels chooses; None where entries are chosen among all."""
        if self.index_levels == 1:
            return None
        return Levels(self.index_block_tokens, self.index_blocks, self.index_from_tokens)

    @property
    def nope_head_dim(self) -> int:
        """Channels of a head without rotary position."""
        return self.head_dim - self.qk_rope_head_dim

    @property
    def heads_per_group(self) -> int:
        """Query heads of one output group."""
        return self.num_attention_heads // self.o_groups

    @property
    def group_width(self) -> int:
        """Channels that enter one output group: heads_per_group * head_dim."""
        return self.heads_per_group * self.head_dim

    @property
    def shared_intermediate_size(self) -> int:
        """Inner width of the shared expert."""
        return self.n_shared_experts * self.moe_intermediate_size

    def is_hash_layer(self, layer: int) -> bool:
        """Whether decoder layer `layer` routes by token id (first `num_hash_layers`)."""
        return layer < self.num_hash_layers

    def has_engram(self, layer: int) -> bool:
        """Whether decoder layer `layer` reads the n-gram memory."""
        return self.engram is not None and layer in self.engram.layers

    def rope_base(self, ratio: int) -> float:
        """Rotary base of a layer with this ratio; one base serves everything in the layer."""
        return self.rope_theta if ratio == 0 else self.compress_rope_theta

    def rope_yarn(self, ratio: int) -> YarnConfig | None:
        """YaRN of a layer with this ratio: window-only layers never have it."""
        return None if ratio == 0 else self.rope_scaling

    def changed(self, **fields: Any) -> "ModelConfig":
        """A checked copy with `fields` replaced; changing the number of layers needs a new schedule too."""
        unknown = sorted(set(fields) - set(self.__dataclass_fields__))
        if unknown:
            raise ConfigError(f"unknown config fields: {', '.join(unknown)}")
        return replace(self, **fields)

    @classmethod
    def from_json(cls, source: "str | PathLike[str] | dict[str, Any]") -> "ModelConfig":
        """Read a `config.json` (path, its folder, or the parsed object); see `official.py` for the spellings."""
        from octavo.config.official import read_config

        return read_config(source)

    def to_dict(self) -> dict[str, Any]:
        """The official spelling as plain values, with our own fields only where they are set."""
        from octavo.config.official import config_to_dict

        return config_to_dict(self)

    def to_json(self) -> str:
        """The official spelling as JSON text, keys sorted, ending with a newline."""
        from octavo.config.official import config_to_json

        return config_to_json(self)


def _whole_to_float(config: "ModelConfig | YarnConfig") -> None:
    """Files write `16` for `16.0`; equal configurations must be equal values."""
    for name, field in config.__dataclass_fields__.items():
        if field.type in (float, float | None) and type(getattr(config, name)) is int:
            object.__setattr__(config, name, float(getattr(config, name)))
