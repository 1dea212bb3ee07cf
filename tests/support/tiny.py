"""Small worlds for tests: configurations, random weights, tiny checkpoints on disk, and the same model in transformers.

Covers: `tiny_config`, `random_configs`, `random_tensors`, `write_tiny_model`, `hf_model`. Does not cover: the maths
(`oracle.py`), quantised checkpoint formats.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from octavo.config.counts import parameter_shapes
from octavo.config.engram import EngramConfig
from octavo.config.model import ModelConfig, YarnConfig

if TYPE_CHECKING:
    from transformers import DeepseekV4ForCausalLM

    from octavo.model.transformer import Transformer

# Fragment of an official name -> transformers' fragment, in the order in which they are applied.
_HF_NAMES = (
    ("embed.weight", "model.embed_tokens.weight"),
    ("head.weight", "lm_head.weight"),
    (".indexer.weights_proj.", ".indexer.scorer.weights_proj."),
    (".attn.indexer.compressor.", ".attn.indexer."),
    (".attn.indexer.", ".attn.compressor.indexer."),
    (".attn.attn_sink", ".self_attn.sinks"),
    (".attn.", ".self_attn."),
    (".ffn.", ".mlp."),
    (".attn_norm.", ".input_layernorm."),
    (".ffn_norm.", ".post_attention_layernorm."),
    (".hc_attn_", ".attn_hc."),
    (".hc_ffn_", ".ffn_hc."),
    ("hc_head_", "model.hc_head.hc_"),
    (".wq_a.", ".q_a_proj."),
    (".q_norm.", ".q_a_norm."),
    (".wq_b.", ".q_b_proj."),
    (".wkv.", ".kv_proj."),
    (".wgate.", ".gate_proj."),
    (".ape", ".position_bias"),
    (".wo_a.", ".o_a_proj."),
    (".wo_b.", ".o_b_proj."),
    (".gate.bias", ".gate.e_score_correction_bias"),
    (".shared_experts.w1.", ".shared_experts.gate_proj."),
    (".shared_experts.w2.", ".shared_experts.down_proj."),
    (".shared_experts.w3.", ".shared_experts.up_proj."),
)

# Fields that transformers spells as we do.
_SAME_FIELDS = (
    "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "head_dim", "qk_rope_head_dim",
    "q_lora_rank", "o_groups", "o_lora_rank", "sliding_window", "index_n_heads", "index_head_dim", "index_topk",
    "n_routed_experts", "num_experts_per_tok", "n_shared_experts", "moe_intermediate_size", "num_hash_layers",
    "scoring_func", "norm_topk_prob", "routed_scaling_factor", "swiglu_limit", "hc_mult", "hc_sinkhorn_iters",
    "hc_eps", "rms_norm_eps", "rope_theta", "compress_rope_theta", "max_position_embeddings", "tie_word_embeddings",
    "bos_token_id", "eos_token_id", "pad_token_id",
)  # fmt: skip


def tiny_config(**overrides: Any) -> ModelConfig:
    """Five layers of every kind, window 32, index_topk 8, YaRN, a hash layer, no MTP, no Engram; fields replaceable."""
    fields: dict[str, Any] = {
        "vocab_size": 400,
        "hidden_size": 32,
        "num_hidden_layers": 5,
        "compress_ratios": (0, 4, 128, 4, 128),
        "num_attention_heads": 4,
        "head_dim": 32,
        "qk_rope_head_dim": 16,
        "q_lora_rank": 24,
        "o_groups": 2,
        "o_lora_rank": 16,
        "sliding_window": 32,
        "index_n_heads": 4,
        "index_head_dim": 32,
        "index_topk": 8,
        "n_routed_experts": 6,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 24,
        "num_hash_layers": 1,
        "routed_scaling_factor": 1.5,
        "swiglu_limit": 2.0,
        "rope_scaling": YarnConfig(factor=16.0, original_max_position_embeddings=64),
        "pad_token_id": 2,
    }
    if "compress_ratios" in overrides and "num_hidden_layers" not in overrides:
        drafts = overrides.get("num_nextn_predict_layers", 0)
        fields["num_hidden_layers"] = len(overrides["compress_ratios"]) - drafts
    return ModelConfig(**(fields | overrides))


def tiny_engram(variant: str = "v41", layers: tuple[int, ...] = (1, 3), **overrides: Any) -> EngramConfig:
    """An n-gram memory that fits `tiny_config`; variant v1 reads orders 2, 3 and v41 orders 2, 3, 4."""
    fields: dict[str, Any] = {
        "variant": variant,
        "layers": layers,
        "max_ngram_size": 3 if variant == "v1" else 4,
        "heads_per_order": 2,
        "rows_per_head": 97,
        "head_dim": 8,
    }
    return EngramConfig(**(fields | overrides))


def random_configs(n: int, seed: int) -> list[ModelConfig]:
    """`n` configurations drawn from every dimension that transformers also has; equal seeds give equal lists."""
    draw = random.Random(seed)
    return [_random_config(draw) for _ in range(n)]


def _random_config(draw: random.Random) -> ModelConfig:
    layers = draw.randint(2, 5)
    ratios = [draw.choice((0, 4, 4, 128)) for _ in range(layers)]
    ratios[draw.randrange(layers)] = 4
    groups = draw.choice((1, 2, 4))
    rope, experts = draw.choice((8, 16)), draw.choice((4, 6, 9))
    yarn = YarnConfig(factor=draw.choice((4.0, 16.0)), original_max_position_embeddings=draw.choice((64, 4096)))
    return tiny_config(
        num_hidden_layers=layers,
        compress_ratios=tuple(ratios),
        hidden_size=draw.choice((24, 32, 48)),
        num_attention_heads=groups * draw.choice((1, 2)),
        o_groups=groups,
        head_dim=draw.choice((24, 32, 40)),
        qk_rope_head_dim=rope,
        q_lora_rank=draw.choice((16, 24)),
        o_lora_rank=draw.choice((8, 16)),
        sliding_window=draw.choice((8, 32, 128)),
        index_n_heads=draw.choice((2, 3, 4)),
        index_head_dim=draw.choice((16, 32)),
        index_topk=draw.choice((2, 5, 16)),
        n_routed_experts=experts,
        num_experts_per_tok=draw.randint(1, 3),
        moe_intermediate_size=draw.choice((16, 24)),
        num_hash_layers=draw.randint(0, min(2, layers)),
        routed_scaling_factor=draw.choice((1.0, 1.5, 2.5)),
        swiglu_limit=draw.choice((0.7, 2.0, 10.0)),
        hc_mult=draw.choice((2, 4, 4)),
        hc_sinkhorn_iters=draw.choice((3, 20)),
        rope_scaling=draw.choice((None, yarn, yarn)),
    )


def random_tensors(
    config: ModelConfig, seed: int, *, device: str = "cpu", dtype: torch.dtype = torch.float32
) -> dict[str, Tensor]:
    """Official names -> random values [`dtype`; tid2eid int64], scaled so that activations stay of order 1.

    Every kind of parameter is away from its neutral value: norms, hyper-connection bases, ape, sinks and router biases.
    """
    generator = torch.Generator(device).manual_seed(seed)
    shapes = parameter_shapes(config)
    drawn = {}
    for name in sorted(shapes):
        value = _random_value(name, shapes[name], config, generator)
        drawn[name] = value.to(dtype) if value.is_floating_point() else value
    return drawn


def _random_value(name: str, shape: tuple[int, ...], config: ModelConfig, generator: torch.Generator) -> Tensor:
    on: dict[str, Any] = {"generator": generator, "device": generator.device}

    def normal(std: float) -> Tensor:
        return torch.randn(shape, **on) * std

    if name.endswith("tid2eid"):
        order = torch.rand(shape[0], config.n_routed_experts, **on).argsort(dim=1)
        return order[:, : shape[1]].contiguous()
    if name.endswith("norm.weight"):
        return 0.5 + torch.rand(shape, **on)
    if name.endswith("_scale"):
        return 0.5 + torch.rand(shape, **on)
    if name.endswith("_base"):
        return normal(0.7)
    if name.endswith(("attn_sink", ".ape")):
        return normal(1.0)
    if name.endswith("gate.bias"):
        return normal(0.3)
    if name in ("embed.weight",) or name.endswith("table.weight"):
        return normal(1.0)
    return normal(1.0 / math.sqrt(shape[-1]))


def stacked_experts(config: ModelConfig, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors with each layer's routed experts as one tensor: `....experts.w1` [X, F, D] and so on."""
    out = {name: value for name, value in tensors.items() if ".experts." not in name}
    blocks = sorted({name.split(".experts.")[0] for name in tensors if ".experts." in name})
    for block in blocks:
        for part in ("w1", "w2", "w3"):
            names = [f"{block}.experts.{expert}.{part}.weight" for expert in range(config.n_routed_experts)]
            out[f"{block}.experts.{part}"] = torch.stack([tensors[name] for name in names])
    return out


def build_model(
    config: ModelConfig,
    tensors: dict[str, Tensor],
    *,
    dtype: torch.dtype = torch.float32,
    compressed_ids: Sequence[int] | None = None,
) -> Transformer:
    """Our model with exactly these official tensors, on their device; `compressed_ids` [V] is Engram's vocabulary map.
    """
    from octavo.model.transformer import Transformer

    with torch.device(tensors["embed.weight"].device):
        model = Transformer(config)
    state = stacked_experts(config, tensors)
    if config.engram is not None:
        ids = range(config.vocab_size) if compressed_ids is None else compressed_ids
        state["engram_map"] = torch.tensor(list(ids))
    if config.tie_word_embeddings:
        state["head.weight"] = state["embed.weight"]
    model.load_state_dict(state, strict=True)
    return model.to(dtype).eval().requires_grad_(False)


def write_tiny_model(folder: str | Path, config: ModelConfig, seed: int) -> Path:
    """A loadable model folder: `config.json`, one safetensors shard of official FP32 tensors, a tiny tokenizer."""
    from safetensors.torch import save_file

    from tests.support.tiny_tokenizer import tiny_tokenizer

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(config.to_json(), encoding="utf-8")
    save_file(random_tensors(config, seed), folder / "model.safetensors", metadata={"format": "pt"})
    tiny_tokenizer(folder, vocab_size=config.vocab_size)
    return folder


def hf_model(config: ModelConfig, tensors: dict[str, Tensor], *, experts: str = "eager") -> DeepseekV4ForCausalLM:
    """transformers' DeepseekV4ForCausalLM with eager attention and the same weights, in their dtype, on their device.

    `experts` is its implementation of the routed experts: "eager", "batched_mm" or "grouped_mm".

    Every parameter and buffer of it is set from `tensors`; `mtp.*` and Engram have no place there and are left out.
    """
    from transformers import DeepseekV4Config, DeepseekV4ForCausalLM, logging

    logging.set_verbosity_error()  # it advises on YaRN factors that official checkpoints use on purpose
    first = next(iter(tensors.values()))
    with torch.device(first.device):
        model = DeepseekV4ForCausalLM(DeepseekV4Config(**hf_fields(config), experts_implementation=experts)).eval()
    model = model.to(tensors["embed.weight"].dtype)
    state = hf_state(config, tensors)
    model.load_state_dict(state, strict=True)
    return model.requires_grad_(False)


def hf_fields(config: ModelConfig) -> dict[str, Any]:
    """Keyword arguments of transformers' DeepseekV4Config for the same model."""
    fields: dict[str, Any] = {name: getattr(config, name) for name in _SAME_FIELDS}
    fields["compress_ratios"] = list(config.layer_ratios)
    if config.rope_scaling is not None:
        yarn = config.rope_scaling
        fields["rope_parameters"] = {
            "rope_type": "yarn",
            "factor": yarn.factor,
            "original_max_position_embeddings": yarn.original_max_position_embeddings,
            "beta_fast": yarn.beta_fast,
            "beta_slow": yarn.beta_slow,
        }
    return fields | {"attn_implementation": "eager"}


def hf_state(config: ModelConfig, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Official tensors under transformers' names, experts stacked with gate and up joined."""
    state = {}
    for name, value in stacked_experts(config, tensors).items():
        if name.startswith("mtp.") or ".engram." in name or name.endswith((".experts.w1", ".experts.w3")):
            continue
        state[_hf_name(name)] = value
    for name in [name for name in state if name.endswith(".experts.w2")]:
        state[name.replace(".w2", ".down_proj")] = state.pop(name)
    stacked = stacked_experts(config, tensors)
    for layer in range(config.num_hidden_layers):
        at = f"layers.{layer}.ffn.experts"
        joined = torch.cat((stacked[f"{at}.w1"], stacked[f"{at}.w3"]), dim=1)
        state[f"model.layers.{layer}.mlp.experts.gate_up_proj"] = joined
    return state


def _hf_name(name: str) -> str:
    if name == "norm.weight":
        return "model.norm.weight"
    name = f"model.{name}" if name.startswith("layers.") else name
    for official, theirs in _HF_NAMES:
        if official.startswith("."):
            name = name.replace(official, theirs)
        elif name.startswith(official):
            name = name.replace(official, theirs, 1)
    return name.replace(".compressor.norm.", ".compressor.kv_norm.").replace(".indexer.norm.", ".indexer.kv_norm.")
