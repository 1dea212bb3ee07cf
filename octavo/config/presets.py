"""Named configurations. Covers: `flash`, `flash_0731`, `pro` (official), `xs`, `s` (ours), the twins `xs_engram`,
`xs_plain`. Not here: weights."""

from octavo.config.engram import EngramConfig, EngramVariant
from octavo.config.errors import ConfigError
from octavo.config.model import ModelConfig, QuantizationConfig, YarnConfig


def flash() -> ModelConfig:
    """DeepSeek-V4-Flash, preview of 2026-04-24: 284 B parameters, 13 B active."""
    return ModelConfig(
        vocab_size=129280,
        hidden_size=4096,
        num_hidden_layers=43,
        compress_ratios=(0, 0, *(4, 128) * 20, 4, 0),
        num_attention_heads=64,
        head_dim=512,
        qk_rope_head_dim=64,
        q_lora_rank=1024,
        o_groups=8,
        o_lora_rank=1024,
        index_n_heads=64,
        index_head_dim=128,
        index_topk=512,
        n_routed_experts=256,
        num_experts_per_tok=6,
        moe_intermediate_size=2048,
        num_hash_layers=3,
        routed_scaling_factor=1.5,
        rope_scaling=YarnConfig(),
        num_nextn_predict_layers=1,
        expert_dtype="fp4",
        quantization=QuantizationConfig(),
    )


def flash_0731() -> ModelConfig:
    """DeepSeek-V4-Flash-0731, the final one: the same backbone, three DSpark draft stages instead of MTP."""
    return flash().changed(
        compress_ratios=(*flash().layer_ratios, 0, 0, 0),
        dspark_block_size=5,
        dspark_markov_rank=256,
        dspark_noise_token_id=128799,
        dspark_target_layer_ids=(40, 41, 42),
    )


def pro() -> ModelConfig:
    """DeepSeek-V4-Pro, preview of 2026-04-24: 1.6 T parameters, 49 B active."""
    return flash().changed(
        hidden_size=7168,
        num_hidden_layers=61,
        compress_ratios=(128, 128, *(4, 128) * 29, 4, 0),
        num_attention_heads=128,
        q_lora_rank=1536,
        o_groups=16,
        index_topk=1024,
        n_routed_experts=384,
        moe_intermediate_size=3072,
        routed_scaling_factor=2.5,
    )


def xs() -> ModelConfig:
    """Octavo-xs: 9.5 M parameters, W C H C H C, Engram in layer 1, stored in FP8."""
    return ModelConfig(
        vocab_size=4096,
        hidden_size=256,
        num_hidden_layers=6,
        compress_ratios=(0, 4, 128, 4, 128, 4),
        num_attention_heads=4,
        head_dim=128,
        qk_rope_head_dim=32,
        q_lora_rank=128,
        o_groups=2,
        o_lora_rank=128,
        index_n_heads=4,
        index_head_dim=64,
        index_topk=128,
        n_routed_experts=8,
        num_experts_per_tok=2,
        moe_intermediate_size=96,
        num_hash_layers=1,
        routed_scaling_factor=1.0,
        pad_token_id=2,
        expert_dtype="fp8",
        quantization=QuantizationConfig(embeddings=True),
        engram=EngramConfig(variant=EngramVariant.V41, layers=(1,), rows_per_head=4093, head_dim=16),
    )


def xs_engram() -> ModelConfig:
    """Octavo-xs with the vocabulary of `s` and an Engram table of 3.4 M parameters, 23 % of 14.5 M; in BF16."""
    return xs().changed(
        vocab_size=8192,
        expert_dtype=None,
        quantization=None,
        engram=EngramConfig(variant=EngramVariant.V41, layers=(1,), rows_per_head=26_399, head_dim=16),
    )


def xs_plain() -> ModelConfig:
    """`xs_engram` with 8 more routed experts in each layer in place of Engram: as many parameters within 0.1 %."""
    return xs_engram().changed(engram=None, n_routed_experts=16)


def s() -> ModelConfig:
    """Octavo-s: 56.8 M parameters and an MTP block of 5.7 M, W W C H C H C C, Engram in layers 1 and 4."""
    return xs().changed(
        vocab_size=8192,
        hidden_size=512,
        num_hidden_layers=8,
        compress_ratios=(0, 0, 4, 128, 4, 128, 4, 4, 0),
        num_attention_heads=8,
        q_lora_rank=256,
        o_groups=4,
        index_n_heads=8,
        index_topk=256,
        n_routed_experts=16,
        moe_intermediate_size=160,
        num_hash_layers=2,
        num_nextn_predict_layers=1,
        expert_dtype=None,
        quantization=None,
        engram=EngramConfig(variant=EngramVariant.V41, layers=(1, 4), rows_per_head=16381, head_dim=16),
    )


PRESETS = {
    "flash": flash, "flash_0731": flash_0731, "pro": pro, "xs": xs, "s": s, "xs_engram": xs_engram,
    "xs_plain": xs_plain,
}  # fmt: skip


def preset(name: str) -> ModelConfig:
    """The preset called `name`; `-` may stand for `_` and an `octavo-` prefix is dropped. ConfigError if unknown."""
    key = name.lower().removeprefix("octavo-").replace("-", "_")
    if key not in PRESETS:
        raise ConfigError(f"unknown preset {name!r}; known are {', '.join(PRESETS)}")
    return PRESETS[key]()
