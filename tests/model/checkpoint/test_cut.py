"""Parts of tensors: their shape, where values lie in them, and reading them alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from octavo.config.errors import CheckpointError
from octavo.config.model import QuantizationConfig
from octavo.model.checkpoint import WritePlan, load_weights
from octavo.model.checkpoint.cut import Cut
from octavo.model.checkpoint.writer import save_checkpoint
from octavo.model.transformer import Transformer
from tests.support.tiny import build_model, random_tensors, tiny_config, write_tiny_model


def taken(whole: Tensor, cut: Cut) -> Tensor:
    rows = slice(None) if cut.rows is None else slice(cut.rows.start, cut.rows.stop)
    columns = slice(None) if cut.columns is None else slice(cut.columns.start, cut.columns.stop)
    return whole[rows] if whole.dim() == 1 else whole[rows, ..., columns]


CUTS = [
    Cut(shape=(7,), rows=range(2, 5)),
    Cut(shape=(6, 5), rows=range(3)),
    Cut(shape=(6, 5), columns=range(1, 5)),
    Cut(shape=(6, 5), rows=range(2, 6), columns=range(2, 3)),
    Cut(shape=(4, 3, 5), rows=range(1, 3)),
    Cut(shape=(4, 3)),
]


@pytest.mark.parametrize("cut", CUTS)
def test_values_are_found(cut: Cut) -> None:
    whole = torch.arange(torch.Size(cut.shape).numel()).view(cut.shape)
    part = taken(whole, cut)
    assert tuple(part.shape) == cut.kept
    here, places = cut.find(torch.arange(whole.numel()))
    assert torch.equal(whole.flatten()[here], part.flatten()[places[here]])
    assert here.sum() == part.numel()
    assert torch.equal(torch.isin(whole.flatten(), part), here)


@pytest.mark.parametrize("wrong", [{"rows": range(3, 3)}, {"rows": range(7)}, {"columns": range(0, 4, 2)}])
def test_ranges_lie_within(wrong: dict[str, Any]) -> None:
    with pytest.raises(AssertionError):
        Cut(shape=(6, 5), **wrong)


def cut_model(config: Any, cuts: dict[str, Cut]) -> Transformer:
    with torch.device("meta"):
        model = Transformer(config)
        for name, cut in cuts.items():
            holder, _, leaf = name.rpartition(".")
            model.get_submodule(holder)._parameters[leaf] = nn.Parameter(torch.empty(cut.kept))
    return model


def cuts_of(config: Any) -> dict[str, Cut]:
    """One of every kind, none at a border of a group of one scale."""
    D, F = config.hidden_size, config.moe_intermediate_size
    G, R, N = config.o_groups, config.o_lora_rank, config.group_width
    return {
        "layers.1.ffn.experts.w1": Cut(shape=(config.n_routed_experts, F, D), rows=range(2, 5)),
        "layers.1.ffn.experts.w2": Cut(shape=(config.n_routed_experts, D, F), rows=range(5, 6)),
        "layers.2.attn.wo_a.weight": Cut(shape=(G * R, N), rows=range(R, 2 * R), columns=range(N // 2 - 3, N - 1)),
        "layers.2.attn.wo_b.weight": Cut(shape=(D, G * R), columns=range(3, G * R - 2)),
        "layers.2.attn.attn_sink": Cut(shape=(config.num_attention_heads,), rows=range(1, 3)),
        "layers.1.ffn.shared_experts.w2.weight": Cut(shape=(D, F), columns=range(F // 3, F // 2 + 1)),
        "embed.weight": Cut(shape=(config.vocab_size, D), rows=range(100, 301)),
    }


@pytest.mark.parametrize("kind", ["plain", "fp8", "fp4"])
def test_only_the_part_is_read(kind: str, tmp_path: Path) -> None:
    wide = {"hidden_size": 320, "moe_intermediate_size": 288, "head_dim": 96, "o_lora_rank": 160}
    fields: dict[str, Any] = {} if kind == "plain" else wide
    config = tiny_config(**fields)
    if kind == "plain":
        folder = write_tiny_model(tmp_path, config, seed=1)
    else:
        config = config.changed(quantization=QuantizationConfig(embeddings=True), expert_dtype=kind)
        folder = tmp_path
        save_checkpoint(build_model(config, random_tensors(config, 1)), config, folder, WritePlan.of(config))
    whole = Transformer(config)
    load_weights(whole, folder, torch.float32)
    cuts = cuts_of(config)
    part = cut_model(config, cuts)
    report = load_weights(part, folder, torch.float32, cuts=cuts)
    for name, parameter in whole.named_parameters():
        expected = taken(parameter, cuts[name]) if name in cuts else parameter
        assert torch.equal(part.get_parameter(name), expected), name
    assert report.model_bytes == sum(t.nbytes for t in part.state_dict().values())


def test_nobody_looks_at_what_is_anothers(tmp_path: Path) -> None:
    config = tiny_config()
    folder = write_tiny_model(tmp_path, config, seed=2)
    tensors = load_file(folder / "model.safetensors")
    tensors["layers.2.attn.wo_b.weight"][:, 16:] = torch.nan
    tensors["layers.1.ffn.experts.4.w1.weight"][:] = torch.nan
    tensors["embed.weight"][200:] = torch.nan
    save_file(tensors, folder / "model.safetensors")
    D = config.hidden_size
    cuts = {
        "layers.2.attn.wo_b.weight": Cut(shape=(D, 32), columns=range(16)),
        "layers.1.ffn.experts.w1": Cut(shape=(6, 24, D), rows=range(3)),
        "embed.weight": Cut(shape=(400, D), rows=range(200)),
    }
    load_weights(cut_model(config, cuts), folder, torch.float32, cuts=cuts)
    for name in cuts:
        fewer = {other: cut for other, cut in cuts.items() if other != name}
        with pytest.raises(CheckpointError, match="NaN"):
            load_weights(cut_model(config, fewer), folder, torch.float32, cuts=fewer)


def test_the_whole_shape_is_checked(tmp_path: Path) -> None:
    config = tiny_config()
    folder = write_tiny_model(tmp_path, config, seed=3)
    cuts = {"embed.weight": Cut(shape=(401, config.hidden_size), rows=range(200))}
    with pytest.raises(
        CheckpointError, match=r"'embed.weight' in .* has shape \[400, 32\]; the model needs \[401, 32\]"
    ):
        load_weights(cut_model(config, cuts), folder, torch.float32, cuts=cuts)
