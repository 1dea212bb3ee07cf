"""The whole model: names, bodies, packing bit for bit, dtypes, tied head. Parity and pieces are in test_parity."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from octavo.cache.view import Controls, View
from octavo.config.counts import parameter_shapes
from octavo.config.model import ModelConfig
from octavo.config.presets import preset
from octavo.kernels.dispatch import Body, use
from octavo.model.transformer import Transformer
from tests.support.ours_run import new_pool, new_state, step, whole
from tests.support.tiny import build_model, random_tensors, stacked_experts, tiny_config, tiny_engram


def make(config: ModelConfig, seed: int = 0) -> Transformer:
    return build_model(config, random_tensors(config, seed))


def ids_of(length: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 400, (length,), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", ["xs", "s", "flash", "pro"])
def test_names_and_shapes_are_those_of_the_checkpoint(name: str) -> None:
    config = preset(name)
    with torch.device("meta"):
        model = Transformer(config)
        wanted = {key: torch.empty(shape) for key, shape in parameter_shapes(config).items()}
        wanted = {key: value.shape for key, value in stacked_experts(config, wanted).items()}
    found = {key: value.shape for key, value in model.state_dict().items()}
    found.pop("engram_map", None)
    assert found == wanted


@pytest.mark.parametrize("engram", [None, "v1", "v41"])
def test_reference_bodies_give_the_same_logits(engram: str | None) -> None:
    config = tiny_config(engram=None if engram is None else tiny_engram(engram))
    model, ids = make(config).double(), ids_of(140)
    (fast,) = whole(model, ids)
    with use(Body.REFERENCE):
        (plain,) = whole(model, ids)
        state = new_state(model.float(), new_pool(model))
        stepped = step(model, ids, state)
    torch.testing.assert_close(fast, plain, rtol=0, atol=1e-9)
    torch.testing.assert_close(stepped.double(), plain, rtol=0, atol=2e-4)


@pytest.mark.parametrize("lengths", [(150, 150), (133, 150), (1, 300)])
def test_editing_one_packed_row_leaves_the_other_bitwise_equal(lengths: tuple[int, int]) -> None:
    config = tiny_config(engram=tiny_engram("v1"))
    model, kept = make(config), ids_of(lengths[1], 1)
    with use(Body.REFERENCE):  # products over sorted experts may round by the number of tokens an expert gets
        before = whole(model, ids_of(lengths[0], 2), kept)
        after = whole(model, ids_of(lengths[0], 3), kept)
    assert not torch.equal(before[0], after[0])
    assert torch.equal(before[1], after[1])
    quick = [whole(model, ids_of(lengths[0], seed), kept)[1] for seed in (2, 3)]
    torch.testing.assert_close(quick[0], quick[1], rtol=0, atol=2e-6)


def test_all_streams_start_as_the_embedding() -> None:
    config = tiny_config()
    model, ids, seen = make(config), ids_of(9), []
    model.layers[0].register_forward_pre_hook(lambda _m, args: seen.append(args[0]))
    whole(model, ids)
    assert torch.equal(seen[0], model.embed.weight[ids].unsqueeze(1).expand(9, 4, 32))


def test_merge_then_head() -> None:
    model = make(tiny_config())
    streams = torch.randn(5, 4, 32)
    torch.testing.assert_close(model.logits(streams), model.merge(streams) @ model.head.weight.T)
    hidden = model.merge(streams) / model.norm.weight
    torch.testing.assert_close(hidden.square().mean(-1), torch.ones(5), rtol=0, atol=1e-4)


def test_compute_in_bfloat16_keeps_masters_and_single_precision_logits() -> None:
    config = tiny_config(compress_ratios=(0, 128))
    wide = make(config)
    narrow = Transformer(config, compute_dtype=torch.bfloat16)
    narrow.load_state_dict(wide.state_dict())
    ids = ids_of(60)
    (exact,), (rough,) = whole(wide, ids), whole(narrow, ids)
    assert narrow.embed.weight.dtype == torch.float32
    assert rough.dtype == torch.float32
    assert 0 < float((exact - rough).norm() / exact.norm()) < 0.1


def test_tied_head_is_the_embedding() -> None:
    model = Transformer(tiny_config(tie_word_embeddings=True))
    assert model.head.weight is model.embed.weight
    assert [name for name, _ in model.named_parameters()].count("head.weight") == 0


def test_reports_of_every_layer() -> None:
    config = tiny_config()
    out = make(config)(ids_of(40), View.packed([0, 40], controls=Controls(load=True)))
    assert out.streams.shape == (40, 4, 32)
    loads = [report.load for report in out.reports if report.load is not None]
    assert [float(load.counts.sum()) for load in loads] == [80.0] * 5
    assert [float(load.balance) > 0 for load in loads] == [False, True, True, True, True]


def test_one_token() -> None:
    model = make(tiny_config(engram=tiny_engram("v1")))
    (logits,) = whole(model, ids_of(1))
    assert logits.shape == (1, 400)
    assert torch.isfinite(logits).all()
