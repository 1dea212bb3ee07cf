"""Names of weights: the official release, transformers, and the running model.

Covers: translation of one name both ways, and where each parameter of the model is found in a file. The model uses the
official names, except that routed experts are stacked: `...ffn.experts.w1` [X, F, D] stands for all
`...ffn.experts.E.w1.weight`. Does not cover: which names must be there (`reader.py`), shapes (`octavo.config.tensors`).

transformers also writes a mixture (its prefix `model.`, official leaves, `norm` for `kv_norm`); it is understood too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

# official stem -> transformers stem; a stem is a module or parameter path inside a layer, without `.weight` or `.scale`
_LAYER: dict[str, str] = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    **{f"hc_{side}_{part}": f"{side}_hc.{part}" for side in ("attn", "ffn") for part in ("fn", "base", "scale")},
    "attn.attn_sink": "self_attn.sinks",
    "attn.wq_a": "self_attn.q_a_proj",
    "attn.q_norm": "self_attn.q_a_norm",
    "attn.wq_b": "self_attn.q_b_proj",
    "attn.wkv": "self_attn.kv_proj",
    "attn.kv_norm": "self_attn.kv_norm",
    "attn.wo_a": "self_attn.o_a_proj",
    "attn.wo_b": "self_attn.o_b_proj",
    **{
        f"attn.{official}.{ours}": f"self_attn.{theirs_at}.{theirs}"
        for official, theirs_at in (("compressor", "compressor"), ("indexer.compressor", "compressor.indexer"))
        for ours, theirs in (("wkv", "kv_proj"), ("wgate", "gate_proj"), ("ape", "position_bias"), ("norm", "kv_norm"))
    },
    "attn.indexer.wq_b": "self_attn.compressor.indexer.q_b_proj",
    "attn.indexer.weights_proj": "self_attn.compressor.indexer.scorer.weights_proj",
    "ffn.gate": "mlp.gate",
    "ffn.gate.bias": "mlp.gate.e_score_correction_bias",
    "ffn.gate.tid2eid": "mlp.gate.tid2eid",
    "ffn.experts.w13": "mlp.experts.gate_up_proj",
    "ffn.experts.w2": "mlp.experts.down_proj",
    "ffn.shared_experts.w1": "mlp.shared_experts.gate_proj",
    "ffn.shared_experts.w2": "mlp.shared_experts.down_proj",
    "ffn.shared_experts.w3": "mlp.shared_experts.up_proj",
}
_TOP: dict[str, str] = {
    "embed": "model.embed_tokens",
    "head": "lm_head",
    "norm": "model.norm",
    **{f"hc_head_{part}": f"model.hc_head.hc_{part}" for part in ("fn", "base", "scale")},
}
_LAYER_BACK = {theirs: ours for ours, theirs in _LAYER.items()} | {"attn.norm": "attn.kv_norm"}
_TOP_BACK = {theirs.removeprefix("model."): ours for ours, theirs in _TOP.items()}
_STACKED = frozenset({"ffn.experts.w13", "ffn.experts.w2"})  # bare parameters there: their scale is `..._scale_inv`

_LAYER_NAME = re.compile(r"(layers\.\d+\.)(.+)")
_STACKED_PARAMETER = re.compile(r"(.+\.ffn\.experts\.)(w[123])")
_FP32 = re.compile(
    r"(^|\.)hc_(attn|ffn|head)_(fn|base|scale)$|\.attn_sink$|\.ape$|\.gate\.(bias|weight)$|(^|[._a-z])norm\.weight$"
)
_DSPARK_ONLY = re.compile(r"mtp\.\d+\.(main_proj|main_norm|markov_head|confidence_head)\.")
_DRAFT_DUPLICATE = re.compile(r"mtp\.\d+\.(emb.*|head\.(weight|scale))$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a parameter, or one expert of a stacked one, lies in a file.

    `name` is the official spelling. `expert` is the index in the parameter's first dimension, None for all of it.
    `half` tells which half of each stored matrix's rows it is (gate and up are joined in transformers), None for both.
    """

    name: str
    expert: int | None = None
    half: int | None = None


def official_name(name: str) -> str:
    """The official spelling of a stored name of any layout; names that nobody knows come back without `model.`.

    Stacked experts of transformers become `...ffn.experts.w13` and `...ffn.experts.w2`; a scale ends in `.scale`.
    """
    bare = name.removeprefix("model.")
    stem, suffix = _split(bare)
    layer = _LAYER_NAME.fullmatch(stem)
    if layer is None:
        return _TOP_BACK.get(stem, stem) + suffix
    return layer[1] + _LAYER_BACK.get(layer[2], layer[2]) + suffix


def hugging_face_name(name: str) -> str:
    """The spelling of transformers for an official name (stacked experts as `...experts.w13`, `...experts.w2`).

    Raises KeyError for a name that transformers has no place for: `mtp.*`, Engram, single experts.
    """
    stem, suffix = _split(name)
    layer = _LAYER_NAME.fullmatch(stem)
    theirs = _TOP[stem] if layer is None else f"model.{layer[1]}{_LAYER[layer[2]]}"
    if suffix == ".scale":
        suffix = "_scale_inv" if layer is not None and layer[2] in _STACKED else ".weight_scale_inv"
    return theirs + suffix


def sources(parameter: str, shape: tuple[int, ...], stored: frozenset[str] | set[str]) -> tuple[Source, ...]:
    """Where to find `parameter` of the model among the official spellings `stored`; all of them must be read."""
    stacked = _STACKED_PARAMETER.fullmatch(parameter)
    if stacked is None:
        return (Source(name=parameter),)
    prefix, part = stacked.groups()
    joined = f"{prefix}w13" if part != "w2" else f"{prefix}w2"
    if joined in stored:
        half = {"w1": 0, "w3": 1, "w2": None}[part]
        return (Source(name=joined, half=half),)
    return tuple(Source(name=f"{prefix}{e}.{part}.weight", expert=e) for e in range(shape[0]))


def split_experts(parameter: str, experts: int) -> tuple[str, ...]:
    """The official names that a parameter of the model is stored under: one, or one per expert."""
    stacked = _STACKED_PARAMETER.fullmatch(parameter)
    if stacked is None:
        return (parameter,)
    return tuple(f"{stacked[1]}{e}.{stacked[2]}.weight" for e in range(experts))


def is_stacked(parameter: str) -> bool:
    """Whether a parameter of the model holds all routed experts of a layer."""
    return _STACKED_PARAMETER.fullmatch(parameter) is not None


def scale_name(name: str) -> str:
    """Official name of the scale that belongs to weight `name`."""
    return name.removesuffix(".weight") + ".scale"


def keeps_fp32(parameter: str) -> bool:
    """Whether a parameter stays FP32 whatever the dtype of the model: mixing, sinks, `ape`, router and norms."""
    return _FP32.search(parameter) is not None


def is_integer(parameter: str) -> bool:
    """Whether a tensor holds int64 ids."""
    return parameter.endswith(".tid2eid") or parameter == "engram_map"


def is_draft(name: str) -> bool:
    """Whether an official name belongs to a draft stage."""
    return name.startswith("mtp.")


def is_draft_duplicate(name: str) -> bool:
    """Whether it is a copy of the embedding or head that some files carry inside the draft stages."""
    return _DRAFT_DUPLICATE.match(name) is not None


def is_dspark_only(name: str) -> bool:
    """Whether only DSpark draft stages have such a tensor."""
    return _DSPARK_ONLY.match(name) is not None


def _split(name: str) -> tuple[str, str]:
    """(stem, suffix) with the suffix one of `.weight`, `.scale` or empty."""
    for ending, suffix in ((".weight_scale_inv", ".scale"), ("_scale_inv", ".scale"), (".weight", ".weight")):
        if name.endswith(ending):
            return name.removesuffix(ending), suffix
    if name.endswith(".scale") and not name.endswith("_hc.scale"):
        return name.removesuffix(".scale"), ".scale"
    return name, ""
