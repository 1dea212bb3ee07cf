"""Engram's lookup: addresses against integers of unlimited size, their range, the gate, rows and their gradient.

Covers: the functions alone; the published multipliers and table sizes are in `tests/model/test_engram.py`.
"""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from octavo.kernels import dispatch
from octavo.kernels.engram_lookup import HashPlan, gate, gather, plan_hash, row_ids

PRIMES = (101, 103, 107, 109, 113, 127)
PLAN = plan_hash(layer=3, moduli=PRIMES, heads=2, max_ngram=4, vocabulary=99_092, seed=0)


def by_hand(context: list[int], plan: HashPlan) -> list[int]:
    """Python's integers never overflow, so a wrapped product in the tensor code would show."""
    mixed, found = context[0] * plan.multipliers[0], []
    for n in range(1, len(context)):
        mixed ^= context[n] * plan.multipliers[n]
        assert 0 <= mixed < 2**63
        for j in range((n - 1) * plan.heads, n * plan.heads):
            found.append(mixed % plan.moduli[j] + sum(plan.moduli[:j]))
    return found


@given(st.lists(st.lists(st.integers(0, 99_091), min_size=4, max_size=4), min_size=1, max_size=5))
def test_addresses_equal_exact_integers(contexts: list[list[int]]) -> None:
    ids = row_ids(torch.tensor(contexts), PLAN)
    assert ids.tolist() == [by_hand(context, PLAN) for context in contexts]


@pytest.mark.parametrize("T", [1, 8, 9])
@torch.no_grad()
def test_loops_over_few_tokens(T: int) -> None:
    torch.manual_seed(T)
    contexts = torch.randint(0, 99_092, (T, 4))
    assert row_ids(contexts, PLAN).tolist() == [by_hand(context, PLAN) for context in contexts.tolist()]
    streams, keys, (gain, key_gain) = torch.randn(T, 4, 32), torch.randn(T, 4, 32), torch.rand(2, 4, 32)
    streams[0, 0] = 0  # no product, no sign
    keys[0, 1] = -streams[0, 1] / 3
    found = gate(streams, keys, gain, key_gain, 1e-6)
    with dispatch.use(dispatch.Body.REFERENCE):
        expected = gate(streams, keys, gain, key_gain, 1e-6)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("vocabulary", [1, 2, 300, 99_092, 2**31 - 1])
def test_multipliers_are_odd_and_products_fit(vocabulary: int) -> None:
    plan = plan_hash(layer=1, moduli=PRIMES, heads=2, max_ngram=4, vocabulary=vocabulary, seed=7)
    assert all(a % 2 == 1 and a * (vocabulary - 1) < 2**63 for a in plan.multipliers)
    last = torch.full((1, 4), vocabulary - 1)
    assert row_ids(last, plan).tolist() == [by_hand(last[0].tolist(), plan)]


def test_layer_and_seed_change_every_multiplier() -> None:
    plans = [
        plan_hash(layer=layer, moduli=PRIMES, heads=2, max_ngram=4, vocabulary=500, seed=seed)
        for layer, seed in ((1, 0), (2, 0), (1, 1))
    ]
    assert len({a for plan in plans for a in plan.multipliers}) == 12


def test_heads_have_tables_of_their_own() -> None:
    ids = row_ids(torch.randint(0, 99_092, (500, 4)), PLAN)
    assert PLAN.rows == sum(PRIMES)
    assert PLAN.offsets == (0, 101, 204, 311, 420, 533)
    for column, (offset, prime) in enumerate(zip(PLAN.offsets, PRIMES, strict=True)):
        assert offset <= int(ids[:, column].min())
        assert int(ids[:, column].max()) < offset + prime
        assert len(ids[:, column].unique()) > 0.9 * prime


def test_an_order_sees_only_its_own_tokens() -> None:
    context = torch.tensor([[5, 6, 7, 8]])
    for position in range(4):
        other = context.clone()
        other[0, position] += 1
        moved = (row_ids(context, PLAN) != row_ids(other, PLAN))[0].view(3, 2).any(1).tolist()
        assert moved == [order >= position for order in (1, 2, 3)]


def test_wrong_number_of_moduli_is_refused() -> None:
    with pytest.raises(AssertionError, match="one modulus for each order and head"):
        plan_hash(layer=1, moduli=PRIMES[:5], heads=2, max_ngram=4, vocabulary=300, seed=0)


def test_gather_joins_rows_and_sums_gradients_of_duplicates() -> None:
    table = torch.randn(6, 3, requires_grad=True)
    ids, weight = torch.tensor([[0, 5], [5, 5]]), torch.randn(2, 6)
    out = gather(table, ids)
    assert torch.equal(out[0], torch.cat((table[0], table[5])))
    (out * weight).sum().backward()
    expected = torch.zeros(6, 3).index_add(0, ids.flatten(), weight.view(4, 3))
    torch.testing.assert_close(table.grad, expected)


def test_gate_by_hand() -> None:
    streams, keys = torch.randn(3, 2, 8, dtype=torch.float64), torch.randn(3, 2, 8, dtype=torch.float64)
    q_weight, k_weight = torch.rand(2, 8, dtype=torch.float64), torch.rand(2, 8, dtype=torch.float64)
    found = gate(streams, keys, q_weight, k_weight, 1e-6)
    for t in range(3):
        for m in range(2):
            q = streams[t, m] / (streams[t, m].square().mean() + 1e-6).sqrt() * q_weight[m]
            k = keys[t, m] / (keys[t, m].square().mean() + 1e-6).sqrt() * k_weight[m]
            s = float(q @ k) / math.sqrt(8)
            expected = 1 / (1 + math.exp(-math.copysign(math.sqrt(abs(s)), s)))
            assert float(found[t, m]) == pytest.approx(expected, abs=1e-12)


def test_gate_of_zero_vectors_is_a_half_with_a_finite_gradient() -> None:
    streams, keys = torch.zeros(1, 2, 4, requires_grad=True), torch.randn(1, 2, 4)
    found = gate(streams, keys, torch.ones(2, 4), torch.ones(2, 4), 1e-6)
    assert found.tolist() == [[0.5, 0.5]]
    found.sum().backward()
    assert streams.grad is not None
    assert torch.isfinite(streams.grad).all()


def test_gate_is_computed_in_single_precision_and_differentiable() -> None:
    streams, keys, ones = torch.randn(2, 2, 4), torch.randn(2, 2, 4), torch.ones(2, 4)
    assert gate(streams.bfloat16(), keys.bfloat16(), ones, ones, 1e-6).dtype == torch.float32
    inputs = [v.double().requires_grad_() for v in (streams, keys, ones, ones)]
    assert torch.autograd.gradcheck(lambda a, b, c, d: gate(a, b, c, d, 1e-6), inputs)


def test_no_tokens() -> None:
    assert row_ids(torch.zeros(0, 4, dtype=torch.int64), PLAN).shape == (0, 6)
    assert gather(torch.randn(5, 3), torch.zeros(0, 6, dtype=torch.int64)).shape == (0, 18)
    assert gate(torch.zeros(0, 2, 4), torch.zeros(0, 2, 4), torch.ones(2, 4), torch.ones(2, 4), 1e-6).shape == (0, 2)
