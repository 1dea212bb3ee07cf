"""Who holds which part of a model's weights.

Covers: the one rule that divides them (`cut_of`), what a number of workers must fit (`check_ranks`), and the bytes of a
rank (`share_of`). Does not cover: reading parts (`octavo.model.checkpoint`), what is exchanged (`layers`).

    routed experts                            by expert
    queries, sinks, grouped output            by head; an output group of more workers than groups by its heads
    index queries and head weights            by index head; whole where the workers do not divide them
    shared expert                             by width
    embedding, head, Engram's tables          by row
    all else (key-value map, compressors, router, streams, norms, Engram's maps)   whole on every rank

What is whole is what every rank needs in full: there is one key-value head, so the cache is the same everywhere.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import prod

from octavo.config.counts import parameter_shapes
from octavo.config.errors import UsageError
from octavo.config.model import DraftKind, ModelConfig
from octavo.model.checkpoint import names
from octavo.model.checkpoint.cut import Cut

_SIMULATED = 128  # channels of the shared expert's hidden row that are rounded together in the FP8 simulation
_EXPERT = re.compile(r"(.+\.ffn\.experts\.)\d+\.(w[123])\.weight")
_ELEMENT = {"float64": 8, "float32": 4, "bfloat16": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """Bytes of one rank's weights as loaded: `divided` are of tensors that ranks share, `whole` of those that every
    rank has."""

    divided: int
    whole: int

    @property
    def nbytes(self) -> int:
        """All of them."""
        return self.divided + self.whole


def without_drafts(config: ModelConfig) -> ModelConfig:
    """The model without its MTP block, which is not loaded where it is spread."""
    if config.mtp_kind is not DraftKind.MTP:
        return config
    return config.changed(num_nextn_predict_layers=0, compress_ratios=config.layer_ratios)


def check_ranks(config: ModelConfig, ranks: int) -> None:
    """Raises UsageError, naming the limit, where a model cannot be divided among so many."""
    for field in ("n_routed_experts", "num_attention_heads"):
        count = getattr(config, field)
        if count % ranks:
            raise UsageError(f"workers is {ranks}; it must divide {field} {count}")
    if config.o_groups % ranks and ranks % config.o_groups:
        raise UsageError(f"workers is {ranks}; it must divide o_groups {config.o_groups}, or be a multiple of it")
    if ranks > config.o_groups and config.quant_sim:
        raise UsageError(f"workers is {ranks}; with quant_sim it must divide o_groups {config.o_groups}")
    unit = _unit(config)
    if -(-config.shared_intermediate_size // unit) < ranks:
        raise UsageError(
            f"workers is {ranks}; the shared expert's width {config.shared_intermediate_size} has "
            f"{-(-config.shared_intermediate_size // unit)} parts"
        )


def cut_of(name: str, shape: tuple[int, ...], config: ModelConfig, rank: int, ranks: int) -> Cut | None:
    """The part of a parameter, by the model's name and whole shape, that `rank` of `ranks` holds; None: all of it.
    `check_ranks` must have passed."""
    if ranks == 1:
        return None
    stem = name.removesuffix(".weight")
    leaf = stem.rsplit(".", 1)[-1]
    if names.is_stacked(name) or stem in ("embed", "head") or stem.endswith("engram.table"):
        return Cut(shape=shape, rows=part(shape[0], rank, ranks))
    if stem.endswith((".indexer.wq_b", ".indexer.weights_proj")):
        whole = config.index_n_heads % ranks != 0
        return None if whole else Cut(shape=shape, rows=part(shape[0], rank, ranks))
    if stem.endswith((".attn.wq_b", ".attn.attn_sink")):
        return Cut(shape=shape, rows=part(shape[0], rank, ranks))
    if stem.endswith((".attn.wo_a", ".attn.wo_b")):
        return _of_output(leaf, shape, config, rank, ranks)
    if ".shared_experts." in name:
        own = part(config.shared_intermediate_size, rank, ranks, unit=_unit(config))
        return Cut(shape=shape, columns=own) if leaf == "w2" else Cut(shape=shape, rows=own)
    return None


def part(count: int, rank: int, ranks: int, *, unit: int = 1) -> range:
    """Rank's part of `count` things, whole units of them: as even as can be, earlier ranks have more."""
    units = -(-count // unit)
    start, stop = (min((units // ranks * r + min(units % ranks, r)) * unit, count) for r in (rank, rank + 1))
    return range(start, stop)


def share_of(config: ModelConfig, ranks: int, *, dtype: str = "float32") -> tuple[Share, ...]:
    """The weights of every rank of a model that is loaded in `dtype` (float64, float32, bfloat16), draft stages not
    among them. Raises UsageError as `check_ranks`, and for another dtype."""
    if dtype not in _ELEMENT:
        raise UsageError(f"dtype is {dtype!r}; it must be one of {', '.join(_ELEMENT)}")
    config = without_drafts(config)
    check_ranks(config, ranks)
    shares = []
    shapes = _model_shapes(config)
    for rank in range(ranks):
        found = {True: 0, False: 0}
        for name, shape in shapes.items():
            cut = cut_of(name, shape, config, rank, ranks)
            found[cut is not None] += prod(shape if cut is None else cut.kept) * _width(name, dtype)
        shares.append(Share(divided=found[True], whole=found[False]))
    return tuple(shares)


def _model_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Parameters and buffers by the model's names, experts stacked; of tied ones one."""
    found: dict[str, tuple[int, ...]] = {}
    for name, shape in parameter_shapes(config).items():
        if names.is_draft(name):
            continue
        expert = _EXPERT.fullmatch(name)
        found[name if expert is None else expert[1] + expert[2]] = (
            tuple(shape) if expert is None else (config.n_routed_experts, *shape)
        )
    if config.engram is not None:
        found["engram_map"] = (config.vocab_size,)
    return found


def _width(name: str, dtype: str) -> int:
    if names.is_integer(name):
        return 8
    return max(4, _ELEMENT[dtype]) if names.keeps_fp32(name) else _ELEMENT[dtype]


def _of_output(leaf: str, shape: tuple[int, ...], config: ModelConfig, rank: int, ranks: int) -> Cut:
    """wo_a [G R, group width] and wo_b [D, G R]: whole groups; of more ranks than groups those that share one have its
    heads' inputs, and wo_b's columns of the whole group."""
    each = max(1, ranks // config.o_groups)  # ranks of a group
    own = part(config.o_groups * config.o_lora_rank, rank // each, ranks // each)
    if leaf == "wo_b":
        return Cut(shape=shape, columns=own)
    return Cut(shape=shape, rows=own, columns=None if each == 1 else part(shape[1], rank % each, each))


def _unit(config: ModelConfig) -> int:
    return _SIMULATED if config.quant_sim else 1
