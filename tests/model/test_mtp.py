"""The predictor: its input, what a prediction may depend on, its own weights, gradients. Parity is in test_parity."""

from __future__ import annotations

import torch
from torch import Tensor

from octavo.cache.view import View
from octavo.kernels import hyper
from octavo.model.mtp import MTP
from octavo.model.rotary import Rotary
from octavo.model.transformer import Transformer
from tests.support.tiny import build_model, random_tensors, tiny_config

CONFIG = tiny_config(num_nextn_predict_layers=1)


def make() -> tuple[Transformer, MTP]:
    model = build_model(CONFIG, random_tensors(CONFIG, 0), dtype=torch.float64)
    stage = model.mtp[0]
    assert isinstance(stage, MTP)
    return model, stage


def predict(stage: MTP, streams: Tensor, embedded: Tensor, tokens: Tensor) -> Tensor:
    return stage.predict(streams, embedded, tokens, View.packed([0, len(tokens)]), Rotary(CONFIG))[0]


def inputs(T: int = 50) -> tuple[Tensor, Tensor, Tensor]:
    return (
        torch.randn(T, 4, 32, dtype=torch.float64),
        torch.randn(T, 32, dtype=torch.float64),
        torch.randint(0, 400, (T,)),
    )


def test_input_is_the_sum_of_both_projections_and_the_merge_is_its_own() -> None:
    _, stage = make()
    streams, embedded, tokens = inputs()
    mixed = torch.stack([
        stage.enorm(embedded) @ stage.e_proj.weight.T + stage.hnorm(streams[:, j]) @ stage.h_proj.weight.T
        for j in range(4)
    ], dim=1)  # fmt: skip
    after, _ = stage(mixed, tokens, View.packed([0, 50]), Rotary(CONFIG), None)
    head = stage.hc_head_fn, stage.hc_head_base, stage.hc_head_scale
    expected = stage.norm(hyper.merge(after, *head, eps=1e-6, norm_eps=1e-6))
    torch.testing.assert_close(predict(stage, streams, embedded, tokens), expected, rtol=0, atol=1e-12)


def test_a_prediction_sees_its_window_and_nothing_later() -> None:
    _, stage = make()
    streams, embedded, tokens = inputs()
    before = predict(stage, streams, embedded, tokens)
    embedded[10] += 1.0
    moved = (predict(stage, streams, embedded, tokens) != before).any(dim=1).nonzero().flatten().tolist()
    assert moved == list(range(10, 10 + CONFIG.sliding_window))


def test_a_window_block_with_a_learned_router_and_no_head_of_its_own() -> None:
    model, stage = make()
    names = {name for name, _ in stage.named_parameters()}
    assert (stage.ratio, stage.ffn.gate.hashed, stage.has_engram) == (0, False, False)
    assert {"enorm.weight", "hnorm.weight", "norm.weight", "e_proj.weight", "h_proj.weight"} <= names
    assert {"hc_head_fn", "hc_head_base", "hc_head_scale"} <= names
    assert not any(name.startswith(("embed", "head.")) or "compressor" in name for name in names)
    assert not hasattr(build_model(tiny_config(), random_tensors(tiny_config(), 0)), "mtp")


def test_a_prediction_is_read_out_of_the_streams_with_which_the_next_goes_on() -> None:
    _, stage = make()
    streams, embedded, tokens = inputs()
    view, rotary = View.packed([0, 50]), Rotary(CONFIG)
    after, _ = stage.advance(streams, embedded, tokens, view, rotary)
    assert after.shape == streams.shape
    assert torch.equal(stage.read_out(after), predict(stage, streams, embedded, tokens))
    torch.testing.assert_close(stage.read_out(after[7:9]), stage.read_out(after)[7:9], rtol=0, atol=1e-12)


def test_gradient_reaches_the_streams_the_embedding_and_every_weight() -> None:
    _, stage = make()
    stage.requires_grad_(True)
    streams, embedded, tokens = inputs(70)
    predict(stage, streams.requires_grad_(), embedded.requires_grad_(), tokens).square().mul(
        torch.randn(70, 32)
    ).sum().backward()
    for tensor in (streams, embedded):
        assert tensor.grad is not None
        assert tensor.grad.abs().amax(-1).min() > 0
    for name, parameter in stage.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name
