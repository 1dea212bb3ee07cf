"""Every limit: the message names field, value and limit."""

from dataclasses import replace
from typing import Any

import pytest

from octavo.config.checks import require_int, require_positive
from octavo.config.errors import ConfigError
from octavo.config.model import ModelConfig, QuantizationConfig, YarnConfig
from octavo.config.presets import flash, flash_0731, xs


def refused(message: str, base: ModelConfig | None = None, **fields: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        (base or xs()).changed(**fields)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [0, -1, 1.5, "4096", True, None, 2**31])
def test_integers(value: Any) -> None:
    refused(f"vocab_size is {value!r}; it must be an integer from 1 to 2147483647", vocab_size=value)


@pytest.mark.parametrize("value", [0, -1.0, float("nan"), float("inf"), "1", True])
def test_positive_numbers(value: Any) -> None:
    refused("it must be a finite number above 0", rms_norm_eps=value)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"tie_word_embeddings": 1}, "tie_word_embeddings is 1; it must be true or false"),
        ({"norm_topk_prob": False}, "norm_topk_prob is False; only true is supported"),
        ({"scoring_func": "sigmoid"}, "scoring_func is 'sigmoid'; it must be one of sqrtsoftplus"),
        ({"topk_method": "greedy"}, "topk_method is 'greedy'; it must be one of noaux_tc"),
        ({"expert_dtype": "int4"}, "expert_dtype is 'int4'; it must be one of None, fp4, fp8"),
        ({"index_levels": 3}, "index_levels is 3; it must be an integer from 1 to 2"),
        ({"pad_token_id": -1}, "pad_token_id is -1"),
    ],
)
def test_choices(fields: dict[str, Any], message: str) -> None:
    refused(message, **fields)


@pytest.mark.parametrize(
    ("ratios", "message"),
    [
        ((0, 4, 128, 4, 128), "compress_ratios has 5 entries; num_hidden_layers 6 needs 6"),
        ((0, 4, 128, 4, 128, 3), "compress_ratios[5] is 3; it must be one of 0, 4, 8, 16, 32, 64, 128, 256"),
        ((0, 4, 128, 4, 128, True), "compress_ratios[5] is True"),
        ((0, 4, 128, 4, 128, 512), "compress_ratios[5] is 512"),
        (None, "compress_ratios is None; it must be a list"),
    ],
)
def test_schedules(ratios: Any, message: str) -> None:
    refused(message, compress_ratios=ratios)


def test_draft_stages_are_window_only() -> None:
    refused("draft stages [4]; they must be window-only", flash(), compress_ratios=(*flash().layer_ratios, 4))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"o_groups": 3}, "o_groups is 3; it must divide num_attention_heads 4"),
        ({"qk_rope_head_dim": 31}, "qk_rope_head_dim is 31; it must be even"),
        ({"qk_rope_head_dim": 130}, "qk_rope_head_dim is 130; it must not exceed head_dim 128"),
        ({"qk_rope_head_dim": 66}, "qk_rope_head_dim is 66; it must not exceed index_head_dim 64"),
        ({"index_head_dim": 48}, "index_head_dim is 48; the Hadamard transform needs a power of two"),
        ({"index_head_dim": 16, "qk_rope_head_dim": 8, "quant_sim": True}, "index_head_dim is 16; quant_sim needs"),
        ({"num_experts_per_tok": 9}, "num_experts_per_tok is 9; it must not exceed n_routed_experts 8"),
        ({"num_hash_layers": 7}, "num_hash_layers is 7; it must not exceed num_hidden_layers 6"),
        ({"bos_token_id": 4096}, "bos_token_id is 4096; it must be below vocab_size 4096"),
        ({"pad_token_id": 5000}, "pad_token_id is 5000; it must be below vocab_size 4096"),
    ],
)
def test_fields_that_do_not_fit_together(fields: dict[str, Any], message: str) -> None:
    refused(message, **fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"dspark_markov_rank": None}, "only dspark_block_size, dspark_noise_token_id, dspark_target_layer_ids set"),
        ({"dspark_block_size": 0}, "dspark_block_size is 0"),
        ({"compress_ratios": flash().layer_ratios}, "compress_ratios has 43 entries; with dspark_block_size set"),
        ({"dspark_target_layer_ids": (43,)}, "dspark_target_layer_ids entry is 43; it must be an integer from 0 to 42"),
        ({"dspark_target_layer_ids": ()}, "dspark_target_layer_ids is (); it must list layer ids"),
        ({"dspark_noise_token_id": 129280}, "dspark_noise_token_id is 129280; it must be below vocab_size 129280"),
    ],
)
def test_dspark(fields: dict[str, Any], message: str) -> None:
    refused(message, flash_0731(), **fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rope_scaling": YarnConfig(factor=0)}, "rope_scaling.factor is 0.0"),
        ({"rope_scaling": YarnConfig(beta_fast=1, beta_slow=2)}, "beta_fast is 1.0; it must exceed beta_slow 2.0"),
        ({"quantization": QuantizationConfig(fmt="e5m2")}, "quantization_config.fmt is 'e5m2'; it must be one of e4m3"),
        ({"quantization": QuantizationConfig(weight_block_size=(64, 64))}, "weight_block_size is (64, 64)"),
        ({"quantization": None}, "expert_dtype is 'fp8'; it needs a quantization_config"),
    ],
)
def test_nested_parts(fields: dict[str, Any], message: str) -> None:
    refused(message, **fields)


def test_engram_must_fit_the_model() -> None:
    engram = xs().engram
    assert engram is not None
    refused("engram.layers has 6; it must be below num_hidden_layers 6", engram=replace(engram, layers=(6,)))
    refused("engram.pad_id is 4096; it must be below vocab_size 4096", engram=replace(engram, pad_id=4096))


def test_single_checks() -> None:
    require_int("n", 3, 3, 3)
    require_positive("x", 1e-9)
    with pytest.raises(ConfigError, match="n is 4; it must be an integer from 0 to 3"):
        require_int("n", 4, 0, 3)
    with pytest.raises(ConfigError, match="x is 0; it must be a finite number above 0"):
        require_positive("x", 0)


def test_the_clamp_may_be_off_and_is_else_a_positive_number() -> None:
    assert xs().changed(swiglu_limit=None).swiglu_limit is None
    assert repr(xs().changed(swiglu_limit=7).swiglu_limit) == "7.0"
    for value in (0.0, -1.0, float("inf"), "10", True):
        refused(f"swiglu_limit is {value!r}; it must be a finite number above 0", swiglu_limit=value)
