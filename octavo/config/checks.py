"""Limits of every model field. Covers: types, ranges and how fields fit together. Not here: reading files."""

from typing import TYPE_CHECKING, Any

from octavo.config.errors import ConfigError

if TYPE_CHECKING:
    from octavo.config.model import ModelConfig

_BIG = 2**31 - 1
_RATIOS = (0, 4, 8, 16, 32, 64, 128, 256)  # a page of 256 tokens holds whole entries
_INTEGERS: tuple[tuple[str, int, int], ...] = (
    ("vocab_size", 1, _BIG),
    ("hidden_size", 1, 2**20),
    ("num_hidden_layers", 1, 4096),
    ("num_attention_heads", 1, 65536),
    ("head_dim", 2, 65536),
    ("qk_rope_head_dim", 2, 65536),
    ("q_lora_rank", 1, 2**20),
    ("o_groups", 1, 65536),
    ("o_lora_rank", 1, 2**20),
    ("sliding_window", 1, 2**20),
    ("index_n_heads", 1, 65536),
    ("index_head_dim", 2, 65536),
    ("index_topk", 1, _BIG),
    ("n_routed_experts", 1, 65536),
    ("num_experts_per_tok", 1, 65536),
    ("n_shared_experts", 1, 1024),
    ("moe_intermediate_size", 1, 2**20),
    ("num_hash_layers", 0, 4096),
    ("hc_mult", 1, 64),
    ("hc_sinkhorn_iters", 1, 1000),
    ("max_position_embeddings", 1, _BIG),
    ("num_nextn_predict_layers", 0, 64),
    ("bos_token_id", 0, _BIG),
    ("eos_token_id", 0, _BIG),
    ("index_levels", 1, 2),
    ("index_block_tokens", 4, 256),
    ("index_blocks", 1, _BIG),
    ("index_from_tokens", 0, _BIG),
)
_POSITIVE = (
    "routed_scaling_factor", "hc_eps", "rms_norm_eps", "rope_theta", "compress_rope_theta",
)  # fmt: skip
_BOOLEANS = ("norm_topk_prob", "tie_word_embeddings", "quant_sim")
_OPTIONAL_INTEGERS = ("pad_token_id", "dspark_block_size", "dspark_markov_rank", "dspark_noise_token_id")
_CHOICES: dict[str, tuple[object, ...]] = {
    "scoring_func": ("sqrtsoftplus",),
    "topk_method": ("noaux_tc",),
    "expert_dtype": (None, "fp4", "fp8"),
}


def check_config(config: "ModelConfig") -> None:
    """Raise ConfigError, naming field, value and limit, for the first field that does not hold."""
    _check_scalars(config)
    _check_schedule(config)
    _check_attention(config)
    _check_experts(config)
    _check_tokens(config)
    _check_drafts(config)
    _check_parts(config)


def require_int(name: str, value: object, low: int, high: int) -> None:
    """Raise ConfigError unless `value` is an integer (no bool) from `low` to `high`."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ConfigError(f"{name} is {value!r}; it must be an integer from {low} to {high}")


def require_positive(name: str, value: object) -> None:
    """Raise ConfigError unless `value` is a finite number above 0."""
    good = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < float("inf")
    if not good:
        raise ConfigError(f"{name} is {value!r}; it must be a finite number above 0")


def _check_scalars(config: "ModelConfig") -> None:
    for name, low, high in _INTEGERS:
        require_int(name, getattr(config, name), low, high)
    for name in _POSITIVE:
        require_positive(name, getattr(config, name))
    if config.swiglu_limit is not None:
        require_positive("swiglu_limit", config.swiglu_limit)
    for name in _BOOLEANS:
        if not isinstance(getattr(config, name), bool):
            raise ConfigError(f"{name} is {getattr(config, name)!r}; it must be true or false")
    for name in _OPTIONAL_INTEGERS:
        if getattr(config, name) is not None:
            require_int(name, getattr(config, name), 0, _BIG)
    for name, allowed in _CHOICES.items():
        _require_choice(name, getattr(config, name), allowed)
    if not config.norm_topk_prob:
        raise ConfigError("norm_topk_prob is False; only true is supported")


def _require_choice(name: str, value: Any, allowed: tuple[object, ...]) -> None:
    if value not in allowed:
        raise ConfigError(f"{name} is {value!r}; it must be one of {', '.join(str(choice) for choice in allowed)}")


def _check_schedule(config: "ModelConfig") -> None:
    if not isinstance(config.compress_ratios, tuple):
        raise ConfigError(f"compress_ratios is {config.compress_ratios!r}; it must be a list of integers")
    for layer, ratio in enumerate(config.compress_ratios):
        if isinstance(ratio, bool) or ratio not in _RATIOS:
            known = ", ".join(map(str, _RATIOS))
            raise ConfigError(f"compress_ratios[{layer}] is {ratio!r}; it must be one of {known}")
    layers, length = config.num_hidden_layers, len(config.compress_ratios)
    if config.dspark_block_size is None and length != layers + config.num_nextn_predict_layers:
        raise ConfigError(
            f"compress_ratios has {length} entries; num_hidden_layers {layers} needs {layers}"
            f" or, with its draft stages, {layers + config.num_nextn_predict_layers}"
        )
    if any(config.draft_ratios):
        raise ConfigError(f"compress_ratios has draft stages {list(config.draft_ratios)}; they must be window-only (0)")


def _check_attention(config: "ModelConfig") -> None:
    heads, groups = config.num_attention_heads, config.o_groups
    if heads % groups:
        raise ConfigError(f"o_groups is {groups}; it must divide num_attention_heads {heads}")
    rope = config.qk_rope_head_dim
    if rope % 2:
        raise ConfigError(f"qk_rope_head_dim is {rope}; it must be even")
    if rope > config.head_dim:
        raise ConfigError(f"qk_rope_head_dim is {rope}; it must not exceed head_dim {config.head_dim}")
    if rope > config.index_head_dim:
        raise ConfigError(f"qk_rope_head_dim is {rope}; it must not exceed index_head_dim {config.index_head_dim}")
    width = config.index_head_dim
    if width & (width - 1):
        raise ConfigError(f"index_head_dim is {width}; the Hadamard transform needs a power of two")
    block = config.index_block_tokens
    if block & (block - 1):
        raise ConfigError(f"index_block_tokens is {block}; it must be a power of two")
    if config.index_from_tokens % max(block, 16):
        raise ConfigError(
            f"index_from_tokens is {config.index_from_tokens}; it must be a multiple of {max(block, 16)}"
        )
    if config.quant_sim and width % 32:
        raise ConfigError(f"index_head_dim is {width}; quant_sim needs a multiple of 32")


def _check_experts(config: "ModelConfig") -> None:
    chosen, routed = config.num_experts_per_tok, config.n_routed_experts
    if chosen > routed:
        raise ConfigError(f"num_experts_per_tok is {chosen}; it must not exceed n_routed_experts {routed}")
    hashed, layers = config.num_hash_layers, config.num_hidden_layers
    if hashed > layers:
        raise ConfigError(f"num_hash_layers is {hashed}; it must not exceed num_hidden_layers {layers}")


def _check_tokens(config: "ModelConfig") -> None:
    for name in ("bos_token_id", "eos_token_id", "pad_token_id", "dspark_noise_token_id"):
        value = getattr(config, name)
        if value is not None and value >= config.vocab_size:
            raise ConfigError(f"{name} is {value}; it must be below vocab_size {config.vocab_size}")


def _check_drafts(config: "ModelConfig") -> None:
    names = ("dspark_block_size", "dspark_markov_rank", "dspark_noise_token_id", "dspark_target_layer_ids")
    given = [name for name in names if getattr(config, name) is not None]
    if not given:
        return
    if len(given) != len(names):
        raise ConfigError(f"only {', '.join(given)} set; DSpark needs all of {', '.join(names)}")
    require_int("dspark_block_size", config.dspark_block_size, 1, 1024)
    require_int("dspark_markov_rank", config.dspark_markov_rank, 1, 2**20)
    if not config.draft_ratios:
        raise ConfigError(
            f"compress_ratios has {len(config.compress_ratios)} entries; with dspark_block_size set it needs"
            f" num_hidden_layers {config.num_hidden_layers} plus one entry per draft stage"
        )
    if not isinstance(config.dspark_target_layer_ids, tuple) or not config.dspark_target_layer_ids:
        raise ConfigError(f"dspark_target_layer_ids is {config.dspark_target_layer_ids!r}; it must list layer ids")
    for layer in config.dspark_target_layer_ids:
        require_int("dspark_target_layer_ids entry", layer, 0, config.num_hidden_layers - 1)


def _check_parts(config: "ModelConfig") -> None:
    if config.rope_scaling is not None:
        yarn = config.rope_scaling
        for name in ("factor", "beta_fast", "beta_slow"):
            require_positive(f"rope_scaling.{name}", getattr(yarn, name))
        require_int("rope_scaling.original_max_position_embeddings", yarn.original_max_position_embeddings, 1, _BIG)
        if yarn.beta_fast <= yarn.beta_slow:
            raise ConfigError(f"rope_scaling.beta_fast is {yarn.beta_fast}; it must exceed beta_slow {yarn.beta_slow}")
    if config.quantization is not None:
        stored = config.quantization
        _require_choice("quantization_config.fmt", stored.fmt, ("e4m3",))
        _require_choice("quantization_config.scale_fmt", stored.scale_fmt, ("ue8m0",))
        _require_choice("quantization_config.activation_scheme", stored.activation_scheme, ("dynamic",))
        _require_choice("quantization_config.weight_block_size", stored.weight_block_size, ((128, 128),))
    elif config.expert_dtype is not None:
        raise ConfigError(f"expert_dtype is {config.expert_dtype!r}; it needs a quantization_config")
    if config.engram is not None:
        last, pad = config.engram.layers[-1], config.engram.pad_id
        if last >= config.num_hidden_layers:
            raise ConfigError(
                f"engram.layers has {last}; it must be below num_hidden_layers {config.num_hidden_layers}"
            )
        if pad >= config.vocab_size:
            raise ConfigError(f"engram.pad_id is {pad}; it must be below vocab_size {config.vocab_size}")
