"""A model with INT8 weights: what is rounded and what is not, results near FP32, steps, drafts, refusals."""

from __future__ import annotations

import copy

import pytest
import torch

from octavo.cache.layout import CacheLayout
from octavo.cache.pool import PagePool
from octavo.config.errors import UsageError
from octavo.engine.fingerprint import model_fingerprint
from octavo.engine.runner import Runner
from octavo.kernels.dispatch import Body, use
from octavo.kernels.int8_linear import round_weight
from octavo.model.int8 import Int8Attention, Int8MoE, to_int8
from octavo.model.transformer import Transformer
from tests.support.tiny import build_model, random_tensors, tiny_config, tiny_engram

IDS = torch.randint(16, 380, (260,), generator=torch.Generator().manual_seed(1)).numpy()


def both(**fields: object) -> tuple[Transformer, Transformer]:
    """The same random model in FP32 and rounded."""
    config = tiny_config(**fields)
    wide = build_model(config, random_tensors(config, 3))
    small = copy.deepcopy(wide)
    to_int8(small)
    return wide, small


def runner(model: Transformer) -> Runner:
    return Runner(model, PagePool(CacheLayout(model.config), capacity_tokens=1024))


def test_the_named_weights_are_codes_and_all_others_are_as_before() -> None:
    wide, small = both(engram=tiny_engram())
    before, after = wide.state_dict(), small.state_dict()
    rounded = {name.removesuffix("_codes") for name in after if name.endswith("_codes")}
    attention = {f"attn.{name}.weight" for name in ("wq_a", "wq_b", "wkv", "wo_a", "wo_b")}
    mixture = {f"ffn.{kind}.{part}" for kind in ("routed", "shared") for part in ("w13", "w2")}
    assert rounded == {"head.weight", *(f"layers.{n}.{name}" for n in range(5) for name in attention | mixture)}
    for name, value in after.items():
        if name.endswith(("_codes", "_scale")) and name[:-6] in rounded:
            assert value.dtype == (torch.int8 if name.endswith("_codes") else torch.float32)
        else:
            assert torch.equal(value, before[name]), name
    gone = {name for name in before if name not in after}
    experts = {f"ffn.experts.{part}" for part in ("w1", "w2", "w3")}
    experts |= {f"ffn.shared_experts.{part}.weight" for part in ("w1", "w2", "w3")}
    assert gone == {"head.weight", *(f"layers.{n}.{name}" for n in range(5) for name in attention | experts)}
    assert torch.equal(after["head.weight_codes"], round_weight(before["head.weight"]).codes)
    gate_and_up = torch.cat((before["layers.1.ffn.experts.w1"], before["layers.1.ffn.experts.w3"]), dim=1)
    assert torch.equal(after["layers.1.ffn.routed.w13_codes"], round_weight(gate_and_up).codes)
    assert all(isinstance(layer.attn, Int8Attention) and isinstance(layer.ffn, Int8MoE) for layer in small.layers)


@pytest.mark.parametrize("engram", [None, "v41"])
def test_logits_are_near_those_of_fp32_and_not_the_same(engram: str | None) -> None:
    wide, small = both(engram=engram and tiny_engram(engram))
    expected, found = runner(wide).whole_logits(IDS), runner(small).whole_logits(IDS)
    similar = torch.nn.functional.cosine_similarity(found, expected, dim=1)
    assert similar.median() > 0.995
    assert not torch.allclose(found, expected, atol=1e-3)


def test_fast_bodies_give_what_single_operations_give() -> None:
    _, small = both()
    made = runner(small)
    whole = made.whole_logits(IDS)
    with use(Body.REFERENCE):
        plain = made.whole_logits(IDS)
    similar = torch.nn.functional.cosine_similarity(whole, plain, dim=1)
    assert similar.median() > 0.9999
    state = made.new_state()
    stepped = torch.cat([made.step(part, state, all_rows=True).logits for part in (IDS[:200], IDS[200:203], IDS[203:])])
    assert torch.nn.functional.cosine_similarity(stepped, whole, dim=1).median() > 0.9999


def test_token_gets_the_same_bits_in_steps_of_one_and_of_several() -> None:
    _, small = both()
    made = runner(small)
    state = made.new_state()
    made.step(IDS[:100], state)
    twin = state.fork()
    together = made.step(IDS[100:105], state, all_rows=True).logits
    alone = [made.step(IDS[at : at + 1], twin).logits for at in range(100, 105)]
    assert torch.equal(torch.cat(alone), together)


def test_draft_stages_are_rounded_too() -> None:
    config = tiny_config(num_nextn_predict_layers=1, compress_ratios=(0, 4, 0), num_hidden_layers=2)
    model = build_model(config, random_tensors(config, 3))
    to_int8(model)
    assert isinstance(model.mtp[0].attn, Int8Attention)
    assert isinstance(model.mtp[0].ffn, Int8MoE)


def test_tied_embedding_stays_and_the_head_is_rounded() -> None:
    _, small = both(tie_word_embeddings=True)
    assert small.embed.weight.dtype == torch.float32
    assert small.head.weight_codes.dtype == torch.int8
    assert runner(small).whole_logits(IDS[:20]).shape == (20, 400)


def test_load_of_experts_is_reported_as_before() -> None:
    wide, small = both()
    x, tokens = torch.randn(30, 32), torch.randint(0, 400, (30,))
    with torch.no_grad():
        expected, found = (model.layers[1].ffn(x, tokens, load=True) for model in (wide, small))
    assert torch.equal(found[1].counts, expected[1].counts)
    assert (found[0] - expected[0]).norm() < 0.03 * expected[0].norm()


def test_fingerprint_tells_it_from_fp32() -> None:
    wide, small = both()
    again = copy.deepcopy(wide)
    to_int8(again)
    assert model_fingerprint(small) == model_fingerprint(again) != model_fingerprint(wide)


def test_memory_is_codes_and_scales() -> None:
    wide, small = both()
    before, after = (sum(value.nbytes for value in model.state_dict().values()) for model in (wide, small))
    codes = sum(value.nbytes for name, value in small.state_dict().items() if name.endswith("_codes"))
    scales = sum(
        value.nbytes for name, value in small.state_dict().items() if name.removesuffix("_scale") + "_codes" in dict(
            small.named_buffers()
        )
    )  # fmt: skip
    assert after == before - 3 * codes + scales


@pytest.mark.parametrize(
    ("change", "message"),
    [("double", "this model is float64 on cpu"), ("meta", "this model is float32 on meta"), ("simulated", "quant_sim")],
)
def test_what_cannot_be_rounded_is_refused(change: str, message: str) -> None:
    if change == "meta":
        with torch.device("meta"):
            model = Transformer(tiny_config())
    else:
        config = tiny_config(quant_sim=change == "simulated")
        dtype = torch.float64 if change == "double" else torch.float32
        model = build_model(config, random_tensors(config, 3), dtype=dtype)
    with pytest.raises(UsageError, match=message):
        to_int8(model)
