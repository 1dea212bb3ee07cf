"""Names: both ways against transformers itself, the mixture that it saves, stacked experts, classes of tensors."""

from __future__ import annotations

import pytest
import torch

from octavo.config.counts import parameter_shapes
from octavo.model.checkpoint import names
from octavo.model.checkpoint.names import Source
from octavo.model.transformer import Transformer
from tests.support.tiny import hf_fields, tiny_config, tiny_engram


def theirs() -> dict[str, tuple[int, ...]]:
    """Names and shapes of transformers' own model."""
    from transformers import DeepseekV4Config, DeepseekV4ForCausalLM

    with torch.device("meta"):
        model = DeepseekV4ForCausalLM(DeepseekV4Config(**hf_fields(tiny_config())))
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}


def test_every_name_of_transformers_translates_and_back() -> None:
    wanted = {name for name in parameter_shapes(tiny_config()) if ".experts." not in name}
    wanted |= {f"layers.{layer}.ffn.experts.{part}" for layer in range(5) for part in ("w13", "w2")}
    translated = {names.official_name(name): name for name in theirs()}
    assert set(translated) == wanted
    assert {official: names.hugging_face_name(official) for official in wanted} == translated


def test_official_names_stay_as_they_are() -> None:
    config = tiny_config(compress_ratios=(0, 4, 128, 0), num_nextn_predict_layers=1, engram=tiny_engram(layers=(1,)))
    scales = {"layers.0.attn.wq_a.scale", "layers.1.ffn.experts.2.w1.scale", "head.scale"}
    every = set(parameter_shapes(config)) | scales
    assert {name: names.official_name(name) for name in every} == {name: name for name in every}


@pytest.mark.parametrize(
    ("stored", "official"),
    [
        ("model.layers.1.attn.norm.weight", "layers.1.attn.kv_norm.weight"),
        ("model.layers.1.attn.compressor.norm.weight", "layers.1.attn.compressor.norm.weight"),
        ("model.layers.1.ffn.experts.3.w1.weight", "layers.1.ffn.experts.3.w1.weight"),
        ("model.hc_head.hc_fn", "hc_head_fn"),
        ("model.embed_tokens.weight", "embed.weight"),
        ("model.layers.2.self_attn.q_a_proj.weight_scale_inv", "layers.2.attn.wq_a.scale"),
        ("model.layers.2.mlp.experts.gate_up_proj_scale_inv", "layers.2.ffn.experts.w13.scale"),
        ("model.layers.2.ffn_hc.scale", "layers.2.hc_ffn_scale"),
        ("lm_head.weight_scale_inv", "head.scale"),
        ("something.else", "something.else"),
    ],
)
def test_mixed_and_scale_names(stored: str, official: str) -> None:
    assert names.official_name(stored) == official


def test_scales_are_spelled_for_transformers() -> None:
    assert names.hugging_face_name("layers.2.attn.wq_a.scale") == "model.layers.2.self_attn.q_a_proj.weight_scale_inv"
    assert names.hugging_face_name("layers.2.ffn.experts.w13.scale").endswith("mlp.experts.gate_up_proj_scale_inv")
    with pytest.raises(KeyError):
        names.hugging_face_name("mtp.0.enorm.weight")
    with pytest.raises(KeyError):
        names.hugging_face_name("layers.1.engram.table.weight")


def test_parameters_of_the_model_are_the_official_names() -> None:
    config = tiny_config(compress_ratios=(0, 4, 128, 0), num_nextn_predict_layers=1, engram=tiny_engram(layers=(1,)))
    with torch.device("meta"):
        state = Transformer(config).state_dict()
    split = {official for name in state for official in names.split_experts(name, config.n_routed_experts)}
    assert split == set(parameter_shapes(config)) | {"engram_map"}


def test_sources_of_stacked_experts() -> None:
    at = "layers.1.ffn.experts"
    assert names.sources(f"{at}.w3", (2, 8, 4), frozenset()) == (
        Source(name=f"{at}.0.w3.weight", expert=0),
        Source(name=f"{at}.1.w3.weight", expert=1),
    )
    joined = frozenset({f"{at}.w13", f"{at}.w2"})
    assert names.sources(f"{at}.w1", (2, 8, 4), joined) == (Source(name=f"{at}.w13", half=0),)
    assert names.sources(f"{at}.w3", (2, 8, 4), joined) == (Source(name=f"{at}.w13", half=1),)
    assert names.sources(f"{at}.w2", (2, 4, 8), joined) == (Source(name=f"{at}.w2"),)
    assert names.sources("norm.weight", (4,), joined) == (Source(name="norm.weight"),)


def test_classes_of_tensors() -> None:
    config = tiny_config(compress_ratios=(0, 4, 128, 0), num_nextn_predict_layers=1, engram=tiny_engram("v1", (1,)))
    wide = {name.rpartition(".layers.")[2] for name in parameter_shapes(config) if names.keeps_fp32(name)}
    leaves = {name.removesuffix(".weight").rpartition(".")[2] for name in wide}
    assert leaves == {
        "attn_norm", "ffn_norm", "norm", "q_norm", "kv_norm", "k_norm", "conv_norm", "enorm", "hnorm",
        "hc_attn_fn", "hc_attn_base", "hc_attn_scale", "hc_ffn_fn", "hc_ffn_base", "hc_ffn_scale",
        "hc_head_fn", "hc_head_base", "hc_head_scale", "attn_sink", "ape", "gate", "bias",
    }  # fmt: skip
    assert not names.keeps_fp32("layers.0.attn.compressor.wgate.weight")
    copies = ("emb.tok_emb.weight", "embed.weight", "head.weight", "head.scale")
    assert all(names.is_draft_duplicate(f"mtp.0.{name}") for name in copies)
    assert not any(names.is_draft_duplicate(f"mtp.0.{name}") for name in ("norm.weight", "hc_head_fn", "enorm.weight"))
    assert names.is_dspark_only("mtp.2.markov_head.markov_w1.weight")
    assert not names.is_dspark_only("mtp.0.e_proj.weight")
