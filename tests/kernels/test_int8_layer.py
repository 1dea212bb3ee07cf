"""A layer's INT8 maps: loops and products against single operations and the plain experts, rows alone and together."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from octavo.kernels import dispatch, int8_layer
from octavo.kernels.int8_layer import Rest, attention_in, attention_out, fits, int8_experts, int8_mixture
from octavo.kernels.int8_layer.ref import Pair
from octavo.kernels.int8_linear import int8_grouped, int8_linear, loops, products, round_weight
from octavo.kernels.pack import Pack
from octavo.kernels.projections import Inputs
from octavo.kernels.rmsnorm import rmsnorm
from octavo.kernels.rope import inverse_frequencies, norm_rotate, rope_table, rotate
from octavo.kernels.route import route
from octavo.model.int8 import Int8Attention
from octavo.model.rotary import Rotary
from tests.support.tiny import build_model, random_tensors, tiny_config

H, K, N, RANK, EPS = 4, 16, 32, 10, 1e-6
CASES = [1, 3, 8, 9, 70]


@pytest.fixture(params=[True, False], ids=["units", "fp32"], autouse=True)
def _units(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if not request.param:
        for module in (products, loops):
            monkeypatch.setattr(module, "units_are_exact", lambda: False)


def table(T: int) -> tuple[Tensor, Tensor]:
    """Rotations of positions 100 and following, four pairs."""
    frequencies = inverse_frequencies(base=10000.0, dims=8, factor=1.0, original=0, beta_fast=32, beta_slow=1)
    return rope_table(torch.arange(100, 100 + T), frequencies)


def nothing(latent: Tensor) -> Rest:
    return None, None, None, None


def close(found: Tensor, expected: Tensor) -> None:
    """Equal but for codes that fall to the other side of a tie where what is rounded differs in its last bit."""
    assert found.shape == expected.shape
    assert (found - expected).norm() < 5e-3 * expected.norm()
    assert ((found - expected).abs() < 1e-4).float().mean() > 0.9


# -- around attention ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("T", CASES)
@torch.no_grad()
def test_way_in_is_rounded_maps_norms_and_rotation(T: int) -> None:
    x = torch.randn(T, N)
    large = tuple(round_weight(torch.randn(shape) * 0.2) for shape in ((24, N), (H * K, 24), (K, N)))
    q_gain, kv_gain = 0.5 + torch.rand(24), 0.5 + torch.rand(K)
    cos, sin = table(T)
    seen: list[Tensor] = []

    def rest(latent: Tensor) -> Rest:
        seen.append(latent)
        return nothing(latent)

    pack = Pack.of(q_gain, kv_gain)
    found = attention_in(x, large, pack, cos, sin, heads=H, index_heads=0, eps=EPS, rest=rest)
    latent = rmsnorm(int8_linear(x, large[0]), q_gain, EPS)
    q = int8_linear(latent, large[1]).view(T, H, K)
    close(found.q, norm_rotate(q, None, cos.unsqueeze(1), sin.unsqueeze(1), eps=EPS))
    torch.testing.assert_close(
        found.kv, norm_rotate(int8_linear(x, large[2]), kv_gain, cos, sin, eps=EPS), rtol=1e-4, atol=1e-5
    )
    assert found[2:] == (None, None, None, None)
    assert len(seen) == (T > 8)
    if seen:
        torch.testing.assert_close(seen[0], latent, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("T", CASES)
@torch.no_grad()
def test_way_back_is_rotation_groups_and_map(T: int) -> None:
    o, (cos, sin) = torch.randn(T, H, K), table(T)
    wo_a, wo_b = round_weight(torch.randn(2 * RANK, 2 * K) * 0.2), round_weight(torch.randn(N, 2 * RANK) * 0.2)
    turned = rotate(o, cos.unsqueeze(1), sin.unsqueeze(1), inverse=True)
    expected = int8_linear(int8_grouped(turned.view(T, 2, 2 * K), wo_a), wo_b)
    close(attention_out(o, wo_a, wo_b, cos, sin), expected)


@pytest.mark.parametrize("layer", [0, 1, 2])
@pytest.mark.parametrize("T", [1, 8, 9])
@torch.no_grad()
def test_every_kind_of_layer_is_as_by_single_operations(T: int, layer: int) -> None:
    torch.manual_seed(T)
    config = tiny_config()
    model = build_model(config, random_tensors(config, 3))
    attn = Int8Attention(model.layers[layer].get_submodule("attn"))  # type: ignore[arg-type]
    rotary = model.rotary
    assert isinstance(rotary, Rotary)
    x, o = torch.randn(T, 32), torch.randn(T, 4, 32)
    cos_sin = rotary.table(torch.arange(100, 100 + T), attn.ratio, torch.float32)
    found, back = attn._project_in(x, cos_sin), attn._project_out(o, cos_sin)
    with dispatch.use(dispatch.Body.REFERENCE):
        assert not fits(x)
        expected, expected_back = attn._project_in(x, cos_sin), attn._project_out(o, cos_sin)
    assert [part is None for part in found] == [part is None for part in expected]
    for name, one, other in zip(Inputs._fields, found, expected, strict=True):
        if one is not None:
            assert (one - other).norm() < 5e-3 * other.norm(), name
    close(back, expected_back)


# -- experts ---------------------------------------------------------------------------------------------------------


def pair(X: int, F: int) -> Pair:
    return round_weight(torch.randn(X, 2 * F, N) * 0.3), round_weight(torch.randn(X, N, F) * 0.3)


@pytest.mark.parametrize("T", [0, *CASES])
@pytest.mark.parametrize("limit", [None, 0.7])
@torch.no_grad()
def test_experts_equal_the_reference(T: int, limit: float | None) -> None:
    x, routed, shared = torch.randn(T, N), pair(5, 12), pair(1, 20)
    chosen, weights = torch.randint(0, 4, (T, 3)), torch.rand(T, 3)  # the last expert is never hit; repeats count
    given = {"chosen": chosen, "weights": weights, "limit": limit}
    found = int8_experts(x, routed, shared, **given)
    with dispatch.use(dispatch.Body.REFERENCE):
        expected = int8_experts(x, routed, shared, **given)
    if T:
        close(found, expected)
    assert found.shape == (T, N)


@torch.no_grad()
def test_experts_are_near_those_of_wide_weights() -> None:
    from octavo.kernels.experts import experts, mlp

    x, routed, shared = torch.randn(40, N), pair(5, 12), pair(1, 20)
    chosen, weights = torch.randint(0, 5, (40, 2)), torch.rand(40, 2)
    (g, u), (sg, su) = (pair[0].wide().chunk(2, dim=1) for pair in (routed, shared))
    expected = experts(x, g, u, routed[1].wide(), chosen=chosen, weights=weights, limit=2.0)
    expected = expected + mlp(x, sg[0], su[0], shared[1].wide()[0], limit=2.0)
    found = int8_experts(x, routed, shared, chosen=chosen, weights=weights, limit=2.0)
    assert 0 < (found - expected).norm() < 0.02 * expected.norm()


@pytest.mark.parametrize("T", [1, 3, 8])
@pytest.mark.parametrize("choice", ["bias", "table", "neither"])
@torch.no_grad()
def test_mixture_in_one_loop_is_choice_and_experts(T: int, choice: str) -> None:
    x, gate, routed, shared = torch.randn(T, N), torch.randn(5, N), pair(5, 12), pair(1, 20)
    rules = {
        "top": 2,
        "scale": 1.5,
        "normalise": True,
        "bias": torch.randn(5) if choice == "bias" else None,
        "table_rows": torch.randint(0, 5, (T, 2)) if choice == "table" else None,
    }
    found = int8_mixture(x, gate, routed, shared, **rules, limit=0.9, plain=lambda: torch.zeros(()))
    made = route(x, gate, **rules)
    expected = int8_experts(x, routed, shared, chosen=made.experts, weights=made.weights, limit=0.9)
    close(found, expected)


# -- which body ------------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_token_gets_the_same_bits_alone_and_among_eight() -> None:
    x, routed, shared, gate = torch.randn(8, N), pair(5, 12), pair(1, 20), torch.randn(5, N)
    rules = {"top": 2, "scale": 1.0, "normalise": True, "bias": None, "table_rows": None, "limit": None}
    never = {"plain": lambda: torch.zeros(())}
    together = int8_mixture(x, gate, routed, shared, **rules, **never)
    alone = [int8_mixture(row, gate, routed, shared, **rules, **never) for row in x.split(1)]
    assert torch.equal(torch.cat(alone), together)
    o, (cos, sin) = torch.randn(8, H, K), table(8)
    wo_a, wo_b = round_weight(torch.randn(2 * RANK, 2 * K)), round_weight(torch.randn(N, 2 * RANK))
    together = attention_out(o, wo_a, wo_b, cos, sin)
    alone = [attention_out(o[t : t + 1], wo_a, wo_b, cos[t : t + 1], sin[t : t + 1]) for t in range(8)]
    assert torch.equal(torch.cat(alone), together)


@torch.no_grad()
def test_single_operations_run_for_many_tokens_large_weights_and_in_reference_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    routed, shared, gate, mark = pair(5, 12), pair(1, 20), torch.randn(5, N), torch.ones(())
    rules = {"top": 2, "scale": 1.0, "normalise": True, "bias": None, "table_rows": None, "limit": None}
    many, one = torch.randn(9, N), torch.randn(1, N)
    assert int8_mixture(many, gate, routed, shared, **rules, plain=lambda: mark) is mark
    with dispatch.use(dispatch.Body.REFERENCE):
        assert int8_mixture(one, gate, routed, shared, **rules, plain=lambda: mark) is mark
    few = int8_mixture(one, gate, routed, shared, **rules, plain=lambda: mark)
    assert few is not mark
    monkeypatch.setattr(int8_layer, "_LARGE", 1)
    assert int8_mixture(one, gate, routed, shared, **rules, plain=lambda: mark) is mark
    assert not fits(many.double())
    with torch.enable_grad():
        assert not fits(many)
