"""The attention sublayer: one layer of each kind written out, controls, mass, grouped output, rows of a batch."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from octavo.cache.view import Controls, Picks, View
from octavo.config.model import LayerKind, ModelConfig
from octavo.kernels.rmsnorm import rmsnorm
from octavo.kernels.rope import rotate
from octavo.model.attention import Attention, AttentionOutput
from octavo.model.compressor import round_main
from octavo.model.rotary import Rotary
from tests.support.tiny import tiny_config

CONFIG = tiny_config(compress_ratios=(0, 4, 128), index_topk=5)
LENGTH = 150


def make(layer: int, config: ModelConfig = CONFIG) -> Attention:
    attention = Attention(config, layer=layer, ratio=config.layer_ratios[layer]).double()
    for name, parameter in attention.named_parameters():
        std = 1.0 if name.endswith(("attn_sink", "ape")) else parameter.shape[-1] ** -0.5
        torch.nn.init.normal_(parameter, mean=1.0 if name.endswith("norm.weight") else 0.0, std=std)
    return attention.requires_grad_(False)


def inputs(length: int = LENGTH) -> Tensor:
    return torch.randn(length, 32, dtype=torch.float64)


def run(attention: Attention, x: Tensor, *, controls: Controls | None = None, rows: int = 1) -> AttentionOutput:
    view = View.packed([i * len(x) // rows for i in range(rows + 1)], controls=controls)
    rotary = Rotary(CONFIG)
    return attention(x, view, rotary, rotary.table(view.positions, attention.ratio, x.dtype))


def by_hand(attention: Attention, x: Tensor) -> Tensor:
    """Token by token and head by head; entries and picks are taken from the parts, which have tests of their own."""
    rotary = Rotary(CONFIG)
    cos, sin = rotary.table(torch.arange(len(x)), attention.ratio, x.dtype)
    latent = rmsnorm(x @ attention.wq_a.weight.T, attention.q_norm.weight, 1e-6)
    q = rmsnorm((latent @ attention.wq_b.weight.T).view(-1, 4, 32), None, 1e-6)
    q = rotate(q, cos.unsqueeze(1), sin.unsqueeze(1))
    kv = rotate(rmsnorm(x @ attention.wkv.weight.T, attention.kv_norm.weight, 1e-6), cos, sin)
    group = View.packed([0, len(x)]).groups[0]
    entries = kv[:0]
    if attention.kind is not LayerKind.WINDOW:
        rows = attention.compressor.entries(attention.compressor.project(x).unsqueeze(0), group, rotary, x.dtype)
        entries = rows.tile(0, rows.length)[0]
    chosen = [list(range((t + 1) // attention.ratio)) if attention.ratio else [] for t in range(len(x))]
    if attention.kind is LayerKind.CSA:
        asked = attention.indexer.queries(x, latent, (cos, sin))
        keys = attention.indexer.compressor
        keys = keys.entries(keys.project(x).unsqueeze(0), group, rotary, x.dtype).tile(0, len(x) // 4)[0]
        scores = torch.einsum("ti,tin->tn", asked.w, torch.einsum("tij,nj->tin", asked.q, keys).relu())
        chosen = [sorted(seen, key=lambda e, t=t: (-float(scores[t, e]), e))[:5] for t, seen in enumerate(chosen)]
    heads = torch.zeros_like(q)
    for t in range(len(x)):
        values = torch.cat((kv[max(0, t - 31) : t + 1], entries[chosen[t]]))
        for h in range(4):
            weights = (values @ q[t, h] / math.sqrt(32)).exp()
            heads[t, h] = (weights @ values) / (weights.sum() + attention.attn_sink[h].exp())
    heads = rotate(heads, cos.unsqueeze(1), sin.unsqueeze(1), inverse=True)
    low = attention.wo_a.weight.view(2, 16, 64)  # two groups of two heads, 16 channels each
    parts = [heads[:, 2 * g : 2 * g + 2].flatten(1) @ low[g].T for g in range(2)]
    return torch.cat(parts, dim=1) @ attention.wo_b.weight.T


@pytest.mark.parametrize("layer", [0, 1, 2], ids=["window", "csa", "hca"])
def test_layer_by_hand(layer: int) -> None:
    attention, x = make(layer), inputs()
    out = run(attention, x)
    torch.testing.assert_close(out.out, by_hand(attention, x), rtol=0, atol=1e-11)
    assert (out.index_loss, out.mass) == (None, ())


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_rows_of_a_batch_do_not_see_each_other(layer: int) -> None:
    attention, x = make(layer), inputs(280)
    together = run(attention, x, rows=2).out
    for part in (slice(0, 140), slice(140, 280)):
        torch.testing.assert_close(together[part], run(attention, x[part]).out, rtol=0, atol=1e-12)
    changed = x.clone()
    changed[:140] += 1.0
    assert torch.equal(run(attention, changed, rows=2).out[140:], together[140:])


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_the_past_does_not_see_the_future(layer: int) -> None:
    attention, x = make(layer), inputs()
    changed = x.clone()
    changed[131] += 1.0
    before, after = run(attention, x).out, run(attention, changed).out
    assert torch.equal(before[:131], after[:131])
    assert (before[131:] != after[131:]).any(dim=1).all()


def test_picking_all_entries_is_dense_attention() -> None:
    attention, x = make(1), inputs()
    dense = run(attention, x, controls=Controls(picks=Picks.ALL)).out
    many = run(attention, x, controls=Controls(index_topk=36)).out  # one of 37 entries is left out at the very end
    torch.testing.assert_close(many[:147], dense[:147], rtol=0, atol=1e-12)
    assert not torch.allclose(run(attention, x).out, dense, atol=1e-3)


def test_hca_can_be_switched_off() -> None:
    attention, x = make(2), inputs()
    on, off = run(attention, x).out, run(attention, x, controls=Controls(hca=False)).out
    torch.testing.assert_close(off[:127], on[:127], rtol=0, atol=1e-13)  # no entry is complete before token 127
    assert (off[127:] - on[127:]).abs().amax(1).min() > 1e-6
    csa = make(1)
    assert torch.equal(run(csa, x).out, run(csa, x, controls=Controls(hca=False)).out)


def test_reported_mass() -> None:
    x = inputs()
    (picked,) = run(make(1), x, controls=Controls(mass=True)).mass
    assert picked.index is not None
    assert (picked.ratio, picked.values.shape, picked.index.shape) == (4, (1, 150, 5), (1, 150, 5))
    assert (picked.values[picked.index < 0] == 0).all()
    assert (picked.values[picked.index >= 0] > 0).all()
    (everything,) = run(make(2), x, controls=Controls(mass=True)).mass
    assert everything.index is None
    assert (everything.ratio, everything.values.shape) == (128, (1, 150, 1))
    assert everything.values.gt(0).flatten().tolist() == [t >= 127 for t in range(150)]
    for mass in (picked, everything):
        assert mass.values.sum(-1).max() < 4  # four heads
    assert run(make(0), x, controls=Controls(mass=True)).mass == ()


def test_index_loss_is_reported_by_csa_layers_on_request() -> None:
    x, controls = inputs(300), Controls(index_loss=True)
    loss = run(make(1), x, controls=controls, rows=2).index_loss
    assert loss is not None
    assert int(loss.queries) == 2 * 147
    assert float(loss.divergence) > 0
    assert run(make(2), x, controls=controls).index_loss is None


@pytest.mark.parametrize("length", [1, 3, 4])
@pytest.mark.parametrize("layer", [0, 1, 2])
def test_short_sequences(layer: int, length: int) -> None:
    attention, x = make(layer), inputs(length)
    out = run(attention, x, controls=Controls(mass=True, index_loss=True)).out
    torch.testing.assert_close(out, by_hand(attention, x), rtol=0, atol=1e-12)


def test_simulation_rounds_keys_in_the_window(monkeypatch: pytest.MonkeyPatch) -> None:
    attention, x = make(0), inputs(20).float()
    attention.float().simulate = True
    seen: list[Tensor] = []
    attend = attention._attend
    monkeypatch.setattr(
        attention, "_attend", lambda q, window, *rest: (seen.append(window), attend(q, window, *rest))[1]
    )
    run(attention, x)
    assert torch.equal(seen[0], round_main(seen[0], 16))  # rounding a second time changes nothing
