"""A model over ranks gives what the whole one gives, from its parts alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from octavo.cache.view import Controls, Picks, View
from octavo.config.errors import UsageError
from octavo.config.model import ModelConfig
from octavo.engine.fingerprint import model_fingerprint
from octavo.engine.spread.layers import SpreadTransformer
from octavo.engine.spread.rank import weight_bytes
from octavo.engine.spread.shares import share_of
from octavo.engine.spread.team import Team
from octavo.kernels.dispatch import Body, use
from octavo.model.checkpoint import load_weights
from octavo.model.transformer import Transformer
from tests.support.spread_ranks import on_ranks
from tests.support.tiny import tiny_config, tiny_engram, write_tiny_model

LENGTH = 300  # two HCA blocks, 75 CSA entries of which 8 are picked, nine windows


def whole(folder: Path, config: ModelConfig, dtype: torch.dtype) -> Transformer:
    with torch.device("meta"):
        model = Transformer(config)
    load_weights(model, folder, dtype)
    return model.eval().requires_grad_(False)


def mine(folder: Path, config: ModelConfig, team: Team, dtype: torch.dtype) -> SpreadTransformer:
    with torch.device("meta"):
        model = SpreadTransformer(config, team)
    load_weights(model, folder, dtype, cuts=model.cuts)
    return model.eval().requires_grad_(False)


def run(model: Transformer, controls: Controls | None = None) -> tuple[Tensor, list[Tensor]]:
    """Logits, and the attention mass where it is asked for."""
    ids = torch.randint(3, 400, (LENGTH,), generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        out = model(ids, View.packed([0, LENGTH], controls=controls))
        return model.logits(out.streams), [mass.values for report in out.reports for mass in report.mass]


CONFIGS: dict[str, tuple[int, dict[str, Any]]] = {
    "two": (2, {}),
    "engram": (2, {"engram": tiny_engram()}),
    "engram that convolves": (2, {"engram": tiny_engram("v1")}),
    "tied": (2, {"tie_word_embeddings": True}),
    "groups shared": (2, {"o_groups": 1}),
    "groups shared by two each": (4, {"n_routed_experts": 8}),
    "three, odd sizes": (3, {"num_attention_heads": 6, "o_groups": 3, "vocab_size": 401, "index_n_heads": 4}),
    "two levels": (2, {"index_levels": 2, "index_block_tokens": 32, "index_blocks": 3, "index_from_tokens": 0}),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_logits_are_those_of_the_whole_model(name: str, tmp_path: Path) -> None:
    count, fields = CONFIGS[name]
    config = tiny_config(**fields)
    folder = write_tiny_model(tmp_path, config, seed=4)
    model = whole(folder, config, torch.float64)
    expected, masses = run(model, Controls(mass=True))
    name_of = model_fingerprint(model)

    def work(team: Team) -> tuple[Tensor, list[Tensor], str, int]:
        part = mine(folder, config, team, torch.float64)
        return *run(part, Controls(mass=True)), model_fingerprint(part), weight_bytes(part)

    shares = share_of(config, count, dtype="float64")
    for (logits, found, fingerprint, nbytes), share in zip(on_ranks(count, work), shares, strict=True):
        assert (logits - expected).abs().max() < 1e-10 * expected.abs().max()
        assert len(found) == len(masses) > 0
        assert all((a.sort().values - b.sort().values).abs().max() < 1e-10 for a, b in zip(found, masses, strict=True))
        assert fingerprint == name_of
        assert nbytes == share.nbytes


@pytest.mark.parametrize("body", list(Body))
def test_single_precision_and_both_bodies(body: Body, tmp_path: Path) -> None:
    config = tiny_config()
    folder = write_tiny_model(tmp_path, config, seed=5)

    def work(team: Team) -> Tensor:
        with use(body):
            return run(mine(folder, config, team, torch.float32))[0]

    with use(body):
        expected = run(whole(folder, config, torch.float32))[0]
    first, second = on_ranks(2, work)
    assert torch.equal(first, second)
    assert (first - expected).abs().max() < 1e-4


def test_simulated_rounding_meets_whole_groups(tmp_path: Path) -> None:
    config = tiny_config(quant_sim=True, moe_intermediate_size=256)
    folder = write_tiny_model(tmp_path, config, seed=6)
    expected = run(whole(folder, config, torch.float64))[0]
    found = on_ranks(2, lambda team: run(mine(folder, config, team, torch.float64))[0])[0]
    assert (
        found - expected
    ).abs().mean() < 0.02 * expected.abs().mean()  # a value between two codes may fall to either


def test_controls_that_choose_otherwise(tmp_path: Path) -> None:
    config = tiny_config()
    folder = write_tiny_model(tmp_path, config, seed=7)
    model = whole(folder, config, torch.float64)
    for controls in (Controls(picks=Picks.ALL), Controls(picks=Picks.RANDOM), Controls(hca=False), Controls(load=True)):
        expected = run(model, controls)[0]
        found = on_ranks(2, lambda team, c=controls: run(mine(folder, config, team, torch.float64), c)[0])[1]
        assert (found - expected).abs().max() < 1e-10 * expected.abs().max(), controls


def test_no_rank_has_what_is_anothers(tmp_path: Path) -> None:
    config = tiny_config()
    folder = write_tiny_model(tmp_path, config, seed=8)
    model = whole(folder, config, torch.float32)
    first, second = on_ranks(2, lambda team: mine(folder, config, team, torch.float32))
    for part, experts in ((first, slice(0, 3)), (second, slice(3, 6))):
        assert torch.equal(
            part.get_parameter("layers.1.ffn.experts.w1"), model.get_parameter("layers.1.ffn.experts.w1")[experts]
        )
    sinks = torch.cat([part.get_parameter("layers.2.attn.attn_sink") for part in (first, second)])
    assert torch.equal(sinks, model.get_parameter("layers.2.attn.attn_sink"))
    output = torch.cat([part.get_parameter("layers.2.attn.wo_b.weight") for part in (first, second)], dim=1)
    assert torch.equal(output, model.get_parameter("layers.2.attn.wo_b.weight"))


def test_what_cannot_be_divided_is_refused() -> None:
    def work(team: Team) -> str:
        with pytest.raises(UsageError) as error, torch.device("meta"):
            SpreadTransformer(tiny_config(n_routed_experts=5), team)
        return str(error.value)

    assert on_ranks(2, work)[0] == "workers is 2; it must divide n_routed_experts 5"
