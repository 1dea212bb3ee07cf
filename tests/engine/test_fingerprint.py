"""A fingerprint tells weights apart, and nothing else."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from octavo.engine.fingerprint import model_fingerprint
from octavo.engine.llm import load
from octavo.model.checkpoint import WritePlan, save_checkpoint
from tests.support.tiny import tiny_engram
from tests.support.tiny_llm import tiny_llm


def test_same_weights_same_name_in_another_folder_and_other_shards(tmp_path: Path) -> None:
    first = tiny_llm(tmp_path / "a")
    save_checkpoint(first.model, first.config, tmp_path / "b", WritePlan.lossless(), max_shard_bytes=40_000)
    (tmp_path / "b" / "tokenizer.json").write_bytes((tmp_path / "a" / "tokenizer.json").read_bytes())
    assert len(list((tmp_path / "b").glob("*.safetensors"))) > 1
    assert load(tmp_path / "b").fingerprint == first.fingerprint


def test_one_changed_weight_of_any_kind_changes_the_name(tmp_path: Path) -> None:
    llm = tiny_llm(tmp_path)
    names = {model_fingerprint(llm.model)}
    changed = ["embed.weight", "layers.1.attn.compressor.ape", "layers.4.ffn.experts.w2", "hc_head_base"]
    for name in changed:
        parameter = llm.model.get_parameter(name)
        with torch.no_grad():
            parameter.view(-1)[0] += 1
        names.add(model_fingerprint(llm.model))
    assert len(names) == 1 + len(changed)


def test_weights_that_stay_on_disk_have_the_same_name(tmp_path: Path) -> None:
    plain = tiny_llm(tmp_path, engram=tiny_engram())
    assert load(tmp_path, offload_experts="1MB", offload_engram=True).fingerprint == plain.fingerprint
    changed = dict(load_file(tmp_path / "model.safetensors"))
    changed["layers.4.ffn.experts.0.w2.weight"][0, 0] += 1
    save_file(changed, tmp_path / "model.safetensors")
    assert load(tmp_path, offload_experts="1MB").fingerprint != plain.fingerprint


def test_config_and_dtype_are_part_of_it(tmp_path: Path) -> None:
    plain = tiny_llm(tmp_path / "a")
    wider = tiny_llm(tmp_path / "b", sliding_window=33)
    assert plain.fingerprint != wider.fingerprint
    assert plain.fingerprint != load(tmp_path / "a", "bfloat16").fingerprint


def test_an_mtp_block_is_no_part_of_it(tmp_path: Path) -> None:
    llm = tiny_llm(tmp_path / "a", num_nextn_predict_layers=1)
    weights = dict(load_file(tmp_path / "a" / "model.safetensors"))
    weights["mtp.0.enorm.weight"] += 1
    save_file(weights, tmp_path / "a" / "model.safetensors")
    assert load(tmp_path / "a").fingerprint == llm.fingerprint
    bare = tiny_llm(tmp_path / "b")
    own = bare.model.state_dict()
    with torch.no_grad():
        for name, value in llm.model.state_dict().items():
            if not name.startswith("mtp."):
                own[name].copy_(value)
    assert model_fingerprint(bare.model) == llm.fingerprint
