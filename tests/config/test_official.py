"""The three spellings of a config file, written and read, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from octavo.config.errors import ConfigError
from octavo.config.model import DraftKind, ModelConfig, YarnConfig
from octavo.config.presets import PRESETS, flash, flash_0731, preset, xs

FLASH_SCHEDULE = [0, 0, *[4, 128] * 20, 4, 0]
OFFICIAL: dict[str, Any] = {
    "architectures": ["DeepseekV4ForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 0,
    "compress_ratios": FLASH_SCHEDULE,
    "compress_rope_theta": 160000,
    "eos_token_id": 1,
    "expert_dtype": "fp4",
    "hc_eps": 1e-06,
    "hc_mult": 4,
    "hc_sinkhorn_iters": 20,
    "head_dim": 512,
    "hidden_act": "silu",
    "hidden_size": 4096,
    "index_head_dim": 128,
    "index_n_heads": 64,
    "index_topk": 512,
    "initializer_range": 0.02,
    "max_position_embeddings": 1048576,
    "model_type": "deepseek_v4",
    "moe_intermediate_size": 2048,
    "n_routed_experts": 256,
    "n_shared_experts": 1,
    "norm_topk_prob": True,
    "num_attention_heads": 64,
    "num_experts_per_tok": 6,
    "num_hash_layers": 3,
    "num_hidden_layers": 43,
    "num_key_value_heads": 1,
    "num_nextn_predict_layers": 1,
    "o_groups": 8,
    "o_lora_rank": 1024,
    "q_lora_rank": 1024,
    "qk_rope_head_dim": 64,
    "quantization_config": {
        "activation_scheme": "dynamic",
        "fmt": "e4m3",
        "quant_method": "fp8",
        "scale_fmt": "ue8m0",
        "weight_block_size": [128, 128],
    },
    "rms_norm_eps": 1e-06,
    "rope_scaling": {
        "beta_fast": 32,
        "beta_slow": 1,
        "factor": 16,
        "original_max_position_embeddings": 65536,
        "type": "yarn",
    },
    "rope_theta": 10000,
    "routed_scaling_factor": 1.5,
    "scoring_func": "sqrtsoftplus",
    "sliding_window": 128,
    "swiglu_limit": 10.0,
    "tie_word_embeddings": False,
    "topk_method": "noaux_tc",
    "torch_dtype": "bfloat16",
    "transformers_version": "4.57.1",
    "use_cache": True,
    "vocab_size": 129280,
}
SHORT: dict[str, Any] = {
    "vocab_size": 129280, "dim": 4096, "moe_inter_dim": 2048, "n_layers": 43, "n_hash_layers": 3, "n_heads": 64,
    "n_routed_experts": 256, "n_shared_experts": 1, "n_activated_experts": 6, "score_func": "sqrtsoftplus",
    "route_scale": 1.5, "swiglu_limit": 10.0, "q_lora_rank": 1024, "head_dim": 512, "rope_head_dim": 64,
    "norm_eps": 1e-6, "o_groups": 8, "o_lora_rank": 1024, "window_size": 128, "compress_ratios": FLASH_SCHEDULE,
    "compress_rope_theta": 160000, "rope_theta": 10000, "original_seq_len": 65536, "rope_factor": 16,
    "beta_fast": 32, "beta_slow": 1, "index_n_heads": 64, "index_head_dim": 128, "index_topk": 512, "hc_mult": 4,
    "hc_sinkhorn_iters": 20, "dtype": "fp8", "scale_fmt": "ue8m0", "expert_dtype": "fp4", "scale_dtype": "fp8",
    "max_batch_size": 4, "max_seq_len": 4096,
}  # fmt: skip


def test_the_official_file_is_flash() -> None:
    assert ModelConfig.from_json(OFFICIAL) == flash()


def test_the_final_flash_file() -> None:
    final = OFFICIAL | {
        "compress_ratios": [*FLASH_SCHEDULE, 0, 0],
        "dspark_block_size": 5,
        "dspark_markov_rank": 256,
        "dspark_noise_token_id": 128799,
        "dspark_target_layer_ids": [40, 41, 42],
    }
    assert ModelConfig.from_json(final) == flash_0731()


def test_the_short_names_are_flash_too() -> None:
    assert ModelConfig.from_json(SHORT) == flash()
    assert ModelConfig.from_json(SHORT | {"original_seq_len": 0}).rope_scaling is None


@pytest.mark.parametrize("name", PRESETS)
def test_round_trip(name: str) -> None:
    config = preset(name)
    assert ModelConfig.from_json(json.loads(config.to_json())) == config
    assert ModelConfig.from_json(config.to_dict()) == config


def test_the_written_file_has_official_names_only(tmp_path: Path) -> None:
    written = flash().to_dict()
    assert set(written) - set(OFFICIAL) == {"pad_token_id"}
    shared = set(written) & set(OFFICIAL)
    assert {name: written[name] for name in shared} == {name: OFFICIAL[name] for name in shared}


def test_transformers_reads_what_we_write_and_we_what_it_writes(tmp_path: Path) -> None:
    from transformers.models.deepseek_v4.configuration_deepseek_v4 import DeepseekV4Config

    ours = xs().changed(engram=None, quantization=None, expert_dtype=None, rope_scaling=YarnConfig(factor=8.0))
    (tmp_path / "config.json").write_text(ours.to_json())
    theirs = DeepseekV4Config.from_pretrained(tmp_path)
    theirs.save_pretrained(tmp_path / "again")
    written = json.loads((tmp_path / "again" / "config.json").read_text())
    assert "layer_types" in written
    assert "compress_ratios" not in written
    assert ModelConfig.from_json(tmp_path / "again") == ours


def test_hugging_face_files_have_no_draft_stages() -> None:
    names = {0: "sliding_attention", 4: "compressed_sparse_attention", 128: "heavily_compressed_attention"}
    values = {k: v for k, v in OFFICIAL.items() if k not in ("compress_ratios", "num_hash_layers", "rope_scaling")}
    values |= {
        "layer_types": [names[ratio] for ratio in FLASH_SCHEDULE[:43]],
        "mlp_layer_types": ["hash_moe"] * 3 + ["moe"] * 40,
        "dspark_block_size": 5,
        "partial_rotary_factor": 0.125,
        "rope_parameters": {
            "main": {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.125},
            "compress": {"rope_type": "yarn", "rope_theta": 160000.0, "attention_factor": 1.0}
            | {k: v for k, v in OFFICIAL["rope_scaling"].items() if k != "type"},
        },
    }
    config = ModelConfig.from_json(values)
    assert config.mtp_kind is DraftKind.NONE
    assert config == flash().changed(num_nextn_predict_layers=0, compress_ratios=flash().layer_ratios)
    rated = ModelConfig.from_json(values | {"compress_rates": {"heavily_compressed_attention": 64}})
    assert set(rated.layer_ratios) == {0, 4, 64}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"colour": 1, "band": 2}, "unknown config fields: band, colour"),
        ({"num_key_value_heads": 8}, "num_key_value_heads is 8; only 1 is supported"),
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu'; only 'silu' is supported"),
        ({"attention_bias": True}, "attention_bias is True; only False is supported"),
        ({"model_type": "llama"}, "model_type is 'llama'; only deepseek_v4 is supported"),
        ({"model_type": "deepseek_v41"}, r"DeepSeek-V4.1 model \(model_type deepseek_v41\)"),
        ({"kv_source_layer_ids": [2, 8]}, r"DeepSeek-V4.1 model \(kv_source_layer_ids\)"),
        ({"dim": 4096}, "both dim and hidden_size are given"),
        ({"mlp_layer_types": ["moe", "hash_moe"]}, "hash_moe layers followed by moe layers"),
        ({"mlp_layer_types": ["hash_moe"] * 3}, "mlp_layer_types has 3 entries; num_hidden_layers is 43"),
        ({"mlp_layer_types": ["moe"] * 43}, "num_hash_layers is 3; mlp_layer_types has 0 hash layers"),
        ({"layer_types": ["sliding_attention"] * 43}, "layer_types and compress_ratios give different schedules"),
        ({"layer_types": ["full_attention"]}, r"layer_types\[0\] is 'full_attention'"),
        ({"compress_rates": {"compressed_sparse_attention": 8}}, "compress rate of CSA is 8; only 4"),
        ({"compress_ratios": 4}, "compress_ratios is 4; it must be a list"),
        ({"partial_rotary_factor": 0.5}, "qk_rope_head_dim is 64; partial_rotary_factor gives 256"),
        ({"quantization_config": {"quant_method": "awq"}}, "quant_method is 'awq'; only 'fp8'"),
        ({"quantization_config": {"quant_method": "fp8", "bits": 4}}, "unknown quantization_config fields: bits"),
        ({"engram": {"layers": [1]}}, "missing engram fields"),
        ({"vocab_size": "many"}, "vocab_size is 'many'"),
        ({"eos_token_id": [1, 2]}, r"eos_token_id is \[1, 2\]"),
    ],
)
def test_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ModelConfig.from_json(OFFICIAL | changed)


def test_quantization_may_name_the_experts() -> None:
    nested = OFFICIAL["quantization_config"] | {"expert_dtype": "fp8"}
    values = {name: value for name, value in OFFICIAL.items() if name != "expert_dtype"}
    assert ModelConfig.from_json(values | {"quantization_config": nested}).expert_dtype == "fp8"
    assert ModelConfig.from_json(values).expert_dtype is None


def test_missing_fields_are_named() -> None:
    values = {name: value for name, value in OFFICIAL.items() if name not in ("head_dim", "o_groups")}
    with pytest.raises(ConfigError, match="missing config fields: head_dim, o_groups"):
        ModelConfig.from_json(values)


def test_reading_leaves_the_given_object_alone() -> None:
    before = json.dumps(OFFICIAL)
    ModelConfig.from_json(OFFICIAL)
    assert json.dumps(OFFICIAL) == before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot read .*config.json: No such file"),
        ("{", "is not JSON"),
        ("[]", "holds a list"),
        (b"\xff", "not JSON"),
    ],
)
def test_unreadable_files(tmp_path: Path, content: str | bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / "config.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError, match=message):
        ModelConfig.from_json(tmp_path)
