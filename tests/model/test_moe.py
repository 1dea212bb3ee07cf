"""Mixture of experts: routed plus shared output, both routers, load and balance, simulation, no tokens."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from octavo.kernels.quant import simulate_fp8
from octavo.model.moe import Gate, MoE
from tests.support.tiny import tiny_config

CONFIG = tiny_config()


def make(*, hashed: bool = False, **fields: object) -> MoE:
    moe = MoE(tiny_config(**fields), hashed=hashed)
    for parameter in moe.parameters():
        torch.nn.init.normal_(parameter, std=parameter.shape[-1] ** -0.5)
    if hashed:
        moe.gate.get_buffer("tid2eid").copy_(torch.rand(400, 6).argsort(1)[:, :2])
    else:
        moe.gate.get_buffer("bias").normal_()
    return moe


def inputs(T: int = 30) -> tuple[Tensor, Tensor]:
    return torch.randn(T, 32), torch.randint(0, 400, (T,))


def ffn(x: Tensor, w1: Tensor, w3: Tensor, w2: Tensor) -> Tensor:
    gate, up = (w1 @ x).clamp(max=2.0), (w3 @ x).clamp(-2.0, 2.0)
    return w2 @ (gate * gate.sigmoid() * up)


@pytest.mark.parametrize("hashed", [False, True])
def test_output_by_hand(hashed: bool) -> None:
    moe, (x, tokens) = make(hashed=hashed), inputs()
    out, load = moe(x, tokens)
    e, s = moe.experts, moe.shared_experts
    counts = torch.zeros(6)
    for t in range(30):
        scores = (1 + (moe.gate.weight @ x[t]).exp()).log().sqrt()
        if hashed:
            chosen = moe.gate.get_buffer("tid2eid")[tokens[t]]
        else:
            chosen = (scores + moe.gate.get_buffer("bias")).topk(2).indices
        expected = ffn(x[t], s.w1.weight, s.w3.weight, s.w2.weight)
        for c in chosen.tolist():
            share = 1.5 * scores[c] / scores[chosen].sum()
            expected = expected + share * ffn(x[t], e.w1[c], e.w3[c], e.w2[c])
            counts[c] += 1
        torch.testing.assert_close(out[t], expected, rtol=0, atol=1e-5)
    assert torch.equal(load.counts, counts)


def test_routers_have_a_table_or_a_bias_and_neither_is_trained() -> None:
    hashed, learned = Gate(CONFIG, hashed=True), Gate(CONFIG, hashed=False)
    assert [name for name, _ in hashed.named_buffers()] == ["tid2eid"]
    assert hashed.get_buffer("tid2eid").dtype == torch.int64
    assert [name for name, _ in learned.named_buffers()] == ["bias"]
    assert [name for name, _ in learned.named_parameters()] == ["weight"]


def test_balance_is_one_when_even_and_the_formula_otherwise() -> None:
    moe, (x, tokens) = make(), inputs(60)
    torch.nn.init.zeros_(moe.gate.weight)
    _, load = moe(x, tokens)
    torch.testing.assert_close(load.balance, torch.tensor(1.0))  # equal scores: P_e = 1/X whatever the counts
    torch.nn.init.normal_(moe.gate.weight)
    _, load = moe(x, tokens)
    scores = torch.nn.functional.softplus(x @ moe.gate.weight.T).sqrt()
    share = (scores / scores.sum(1, keepdim=True)).mean(0)
    torch.testing.assert_close(load.balance, (6 / (2 * 60) * load.counts * share).sum())
    load.balance.backward()
    assert moe.gate.weight.grad is not None
    assert moe.gate.weight.grad.abs().max() > 0


def test_hash_routed_layers_have_no_balance_loss() -> None:
    moe, (x, tokens) = make(hashed=True), inputs()
    _, load = moe(x, tokens)
    assert float(load.balance) == 0
    assert float(load.counts.sum()) == 60


@pytest.mark.parametrize("hashed", [False, True])
def test_no_tokens(hashed: bool) -> None:
    out, load = make(hashed=hashed)(*inputs(0))
    assert out.shape == (0, 32)
    assert (load.counts.tolist(), float(load.balance)) == ([0.0] * 6, 0.0)


def test_output_has_the_dtype_of_the_input() -> None:
    moe, (x, tokens) = make(), inputs()
    out, _ = moe(x.bfloat16(), tokens)
    wide, _ = moe(x.bfloat16().float(), tokens)
    assert out.dtype == torch.bfloat16
    assert (out.float() - wide).norm() < 0.03 * wide.norm()


def test_simulation_rounds_both_inputs_of_an_expert_but_not_the_router() -> None:
    plain, rounded = make(), make(quant_sim=True)
    rounded.load_state_dict(plain.state_dict())
    x, tokens = inputs()
    assert torch.equal(plain.gate(x, tokens).weights, rounded.gate(x, tokens).weights)
    out, _ = rounded(x, tokens)
    rough = simulate_fp8(x, group=32)
    routing = plain.gate(x, tokens)
    e, s = plain.experts, plain.shared_experts

    def rounded_ffn(x: Tensor, w1: Tensor, w3: Tensor, w2: Tensor, share: Tensor) -> Tensor:
        gate, up = (w1 @ x).clamp(max=2.0), (w3 @ x).clamp(-2.0, 2.0)
        return w2 @ simulate_fp8((gate * gate.sigmoid() * up * share).unsqueeze(0), group=24)[0]

    for t in range(30):
        expected = rounded_ffn(rough[t], s.w1.weight, s.w3.weight, s.w2.weight, torch.tensor(1.0))
        for c, share in zip(routing.experts[t].tolist(), routing.weights[t], strict=True):
            expected = expected + rounded_ffn(rough[t], e.w1[c], e.w3[c], e.w2[c], share)
        torch.testing.assert_close(out[t], expected, rtol=0, atol=2e-2)
    assert not torch.equal(out, plain(x, tokens)[0])


def test_several_shared_experts_are_one_wider_one() -> None:
    assert make(n_shared_experts=3).shared_experts.w1.weight.shape == (72, 32)


@pytest.mark.parametrize("hashed", [False, True])
def test_given_experts_are_used_and_weighed_by_the_own_router(hashed: bool) -> None:
    moe, (x, tokens) = make(hashed=hashed), inputs()
    own = moe.gate(x, tokens)
    again, load = moe(x, tokens, routed=own.experts)
    torch.testing.assert_close(again, moe(x, tokens)[0], rtol=0, atol=0)
    assert torch.equal(load.experts, own.experts)
    given = (own.experts + 1) % 6
    found = moe.gate(x, tokens, given)
    assert torch.equal(found.experts, given)
    shares = found.scores.gather(1, given)
    torch.testing.assert_close(found.weights, 1.5 * shares / shares.sum(-1, keepdim=True))
    torch.testing.assert_close(found.scores, own.scores)
    assert not torch.allclose(moe(x, tokens, routed=given, load=False)[0], again, atol=1e-3)


def test_another_router_chooses_and_this_one_weighs() -> None:
    moe, other, (x, tokens) = make(), make(), inputs()
    theirs = other.gate(x, tokens)
    found = moe.gate(x, tokens, (other.gate.weight, other.gate.get_buffer("bias")))
    assert torch.equal(found.experts, theirs.experts)
    torch.testing.assert_close(found.scores, moe.gate(x, tokens).scores)
    found.weights.square().sum().backward()
    assert other.gate.weight.grad is None
    assert moe.gate.weight.grad is not None
