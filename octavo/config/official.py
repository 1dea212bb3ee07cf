"""Reading and writing `config.json`. Covers: the official spelling, the Hugging Face one (transformers 5.23) and the
short names of the release's own `inference/config.json`. Not here: limits of values (`checks.py`).

Whatever the spelling, a field nobody knows is an error that names it. Files in the Hugging Face spelling describe
checkpoints without `mtp.*` tensors, so they are read as models without draft stages.
"""

import json
from dataclasses import MISSING
from os import PathLike
from pathlib import Path
from typing import Any

from octavo.config.engram import engram_from_dict
from octavo.config.errors import ConfigError
from octavo.config.model import ModelConfig, QuantizationConfig
from octavo.config.rope_fields import read_yarn, write_yarn

MODEL_TYPE = "deepseek_v4"
_LAYER_TYPES = {
    "sliding_attention": 0,
    "compressed_sparse_attention": 4,
    "heavily_compressed_attention": 128,
}
_SHORT_NAMES = {
    "dim": "hidden_size",
    "n_layers": "num_hidden_layers",
    "n_heads": "num_attention_heads",
    "rope_head_dim": "qk_rope_head_dim",
    "window_size": "sliding_window",
    "n_activated_experts": "num_experts_per_tok",
    "moe_inter_dim": "moe_intermediate_size",
    "n_hash_layers": "num_hash_layers",
    "score_func": "scoring_func",
    "route_scale": "routed_scaling_factor",
    "norm_eps": "rms_norm_eps",
    "n_mtp_layers": "num_nextn_predict_layers",
}
_FIXED: dict[str, tuple[object, ...]] = {
    "num_key_value_heads": (1,),
    "hidden_act": ("silu",),
    "attention_bias": (False,),
    "mlp_bias": (False,),
    "attention_dropout": (0, None),
    "output_router_logits": (False,),
    "router_jitter_noise": (0,),
}
_HARMLESS = frozenset(
    (
        "_name_or_path", "architectures", "auto_map", "dtype", "id2label", "initializer_range", "is_encoder_decoder",
        "label2id", "max_batch_size", "max_seq_len", "output_attentions", "output_hidden_states", "problem_type",
        "return_dict", "router_aux_loss_coef", "scale_dtype", "torch_dtype", "transformers_version", "use_cache",
    )
)  # fmt: skip
_V41_MARKS = ("kv_source_layer_ids", "index_source_layer_ids", "candidate_source_layer_id", "engram_layer_ids")
_OWN_DEFAULTS: dict[str, object] = {
    "engram": None, "index_levels": 1, "index_block_tokens": 4, "index_blocks": 1024,
    "index_from_tokens": 262144, "quant_sim": False,
}  # fmt: skip


def read_config(source: "str | PathLike[str] | dict[str, Any]") -> ModelConfig:
    """Build a ModelConfig from a path (file or folder holding `config.json`) or a parsed object.

    Raises ConfigError for a file that cannot be read, a model that is not DeepSeek-V4, unknown or missing fields,
    and values out of range.
    """
    values = dict(source) if isinstance(source, dict) else _load(Path(source))
    _refuse_other_models(values)
    fields = _known_fields(values)
    missing = [
        name for name, field in ModelConfig.__dataclass_fields__.items() if _is_required(field) and name not in fields
    ]
    if missing:
        raise ConfigError(f"missing config fields: {', '.join(missing)}")
    return ModelConfig(**fields)


def config_to_dict(config: ModelConfig) -> dict[str, Any]:
    """Official spelling as plain JSON values; our own fields appear only where they differ from their default."""
    values: dict[str, Any] = {"model_type": MODEL_TYPE, "architectures": ["DeepseekV4ForCausalLM"]}
    values |= {"num_key_value_heads": 1, "hidden_act": "silu", "attention_bias": False}
    for name in ModelConfig.__dataclass_fields__:
        value = getattr(config, name)
        if name in _OWN_DEFAULTS and value == _OWN_DEFAULTS[name]:
            continue
        if value is None and (name.startswith("dspark_") or name in ("expert_dtype", "quantization")):
            continue
        if name == "quantization" and config.quantization is not None:
            values["quantization_config"] = _write_quantization(config.quantization)
        elif name == "rope_scaling":
            values[name] = write_yarn(config.rope_scaling)
        elif name == "engram" and config.engram is not None:
            values[name] = config.engram.to_dict()
        else:
            values[name] = list(value) if isinstance(value, tuple) else value
    return values


def config_to_json(config: ModelConfig) -> str:
    """`config_to_dict` as JSON text with sorted keys and a final newline."""
    return json.dumps(config_to_dict(config), indent=2, sort_keys=True) + "\n"


def _load(path: Path) -> dict[str, Any]:
    path = path / "config.json" if path.is_dir() else path
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise ConfigError(f"{path} is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path} holds a {type(values).__name__}; a config must be an object")
    return values


def _is_required(field: Any) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _refuse_other_models(values: dict[str, Any]) -> None:
    model_type = values.get("model_type", MODEL_TYPE)
    marks = [name for name in _V41_MARKS if name in values]
    if str(model_type).startswith("deepseek_v41") or marks:
        sign = marks[0] if marks else f"model_type {model_type}"
        raise ConfigError(f"this is a DeepSeek-V4.1 model ({sign}); only DeepSeek-V4 is supported so far")
    if model_type != MODEL_TYPE:
        raise ConfigError(f"model_type is {model_type!r}; only {MODEL_TYPE} is supported")


def _known_fields(values: dict[str, Any]) -> dict[str, Any]:
    """Translate every spelling to ModelConfig arguments; consumes a copy of `values`."""
    rest = {name: value for name, value in values.items() if name != "model_type"}
    for name, allowed in _FIXED.items():
        if name in rest and rest[name] not in allowed:
            raise ConfigError(f"{name} is {rest[name]!r}; only {allowed[0]!r} is supported")
        rest.pop(name, None)
    precision = rest.get("dtype")
    short = _rename_short(rest)
    fields: dict[str, Any] = {}
    _take_schedule(rest, fields)
    _take_hash_layers(rest, fields)
    _take_rope_width(rest, fields)
    read_yarn(rest, fields, short=short)
    _take_quantization(rest, fields, short_dtype=precision if short else None)
    if rest.get("engram") is not None:
        fields["engram"] = engram_from_dict(rest["engram"])
    rest.pop("engram", None)
    unknown = sorted(set(rest) - set(ModelConfig.__dataclass_fields__) - _HARMLESS)
    if unknown:
        raise ConfigError(f"unknown config fields: {', '.join(unknown)}")
    return {name: value for name, value in rest.items() if name not in _HARMLESS} | fields


def _rename_short(rest: dict[str, Any]) -> bool:
    """Rename the release's short names in place; tells whether there were any."""
    found = [name for name in _SHORT_NAMES if name in rest]
    for name in found:
        official = _SHORT_NAMES[name]
        if official in rest:
            raise ConfigError(f"both {name} and {official} are given")
        rest[official] = rest.pop(name)
    schedule, layers = rest.get("compress_ratios"), rest.get("num_hidden_layers")
    if found and isinstance(schedule, (list, tuple)) and isinstance(layers, int):
        rest.setdefault("num_nextn_predict_layers", max(0, len(schedule) - layers))
    return bool(found)


def _take_schedule(rest: dict[str, Any], fields: dict[str, Any]) -> None:
    """Official `compress_ratios`, or `layer_types` with `compress_rates`; both may be given if they agree."""
    types = rest.pop("layer_types", None)
    rates = dict(_LAYER_TYPES) | (rest.pop("compress_rates", None) or {})
    for name, key in (
        ("compress_rate_csa", "compressed_sparse_attention"),
        ("compress_rate_hca", "heavily_compressed_attention"),
    ):
        rates[key] = rest.pop(name, rates[key])
    if rates["compressed_sparse_attention"] != 4:
        raise ConfigError(f"compress rate of CSA is {rates['compressed_sparse_attention']!r}; only 4 is supported")
    if types is None:
        if not isinstance(rest.get("compress_ratios", []), (list, tuple)):
            raise ConfigError(f"compress_ratios is {rest['compress_ratios']!r}; it must be a list of integers")
        return
    for layer, kind in enumerate(types):
        if kind not in rates:
            raise ConfigError(f"layer_types[{layer}] is {kind!r}; it must be one of {', '.join(_LAYER_TYPES)}")
    ratios = tuple(rates[kind] for kind in types)
    given = rest.get("compress_ratios")
    if given is None:
        fields["compress_ratios"] = ratios
        fields["num_nextn_predict_layers"] = 0
        for name in [name for name in rest if name.startswith("dspark_")]:
            del rest[name]
    elif tuple(given[: len(ratios)]) != ratios:
        raise ConfigError("layer_types and compress_ratios give different schedules")


def _take_hash_layers(rest: dict[str, Any], fields: dict[str, Any]) -> None:
    """Hugging Face's `mlp_layer_types`: hash-routed layers first, then learned ones."""
    types = rest.pop("mlp_layer_types", None)
    if types is None:
        return
    hashed = sum(1 for kind in types if kind == "hash_moe")
    if list(types) != ["hash_moe"] * hashed + ["moe"] * (len(types) - hashed):
        raise ConfigError(f"mlp_layer_types is {list(types)}; it must be hash_moe layers followed by moe layers")
    if len(types) != rest.get("num_hidden_layers", len(types)):
        raise ConfigError(f"mlp_layer_types has {len(types)} entries; num_hidden_layers is {rest['num_hidden_layers']}")
    if rest.get("num_hash_layers", hashed) != hashed:
        raise ConfigError(f"num_hash_layers is {rest['num_hash_layers']}; mlp_layer_types has {hashed} hash layers")
    fields["num_hash_layers"] = hashed


def _take_rope_width(rest: dict[str, Any], fields: dict[str, Any]) -> None:
    factor = rest.pop("partial_rotary_factor", None)
    if factor is None or "head_dim" not in rest:
        return
    width = round(rest["head_dim"] * factor)
    if rest.get("qk_rope_head_dim", width) != width:
        raise ConfigError(f"qk_rope_head_dim is {rest['qk_rope_head_dim']}; partial_rotary_factor gives {width}")
    fields["qk_rope_head_dim"] = width


def _take_quantization(rest: dict[str, Any], fields: dict[str, Any], *, short_dtype: object) -> None:
    stored = rest.pop("quantization_config", None)
    scale_format = rest.pop("scale_fmt", "ue8m0")
    if stored is None:
        if short_dtype == "fp8":
            fields["quantization"] = QuantizationConfig(scale_fmt=scale_format)
        return
    known = dict(stored)
    method = known.pop("quant_method", "fp8")
    if method != "fp8":
        raise ConfigError(f"quantization_config.quant_method is {method!r}; only 'fp8' is supported")
    if "expert_dtype" in known:
        fields["expert_dtype"] = known.pop("expert_dtype")
    for name in ("modules_to_not_convert", "dequantize"):
        known.pop(name, None)
    unknown = sorted(set(known) - set(QuantizationConfig.__dataclass_fields__))
    if unknown:
        raise ConfigError(f"unknown quantization_config fields: {', '.join(unknown)}")
    if isinstance(known.get("weight_block_size"), list):
        known["weight_block_size"] = tuple(known["weight_block_size"])
    fields["quantization"] = QuantizationConfig(**known)


def _write_quantization(stored: QuantizationConfig) -> dict[str, Any]:
    values: dict[str, Any] = {
        "quant_method": "fp8",
        "fmt": stored.fmt,
        "scale_fmt": stored.scale_fmt,
        "activation_scheme": stored.activation_scheme,
        "weight_block_size": list(stored.weight_block_size),
    }
    return values | {name: True for name in ("embeddings", "engram_tables") if getattr(stored, name)}
