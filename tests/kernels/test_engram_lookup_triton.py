"""Engram in Triton: addresses bit for bit up to 63-bit products, rows, gradients of table and gate, wrong input."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("triton")

from octavo.kernels.engram_lookup import hashing, ref, triton_recall
from octavo.kernels.engram_lookup.hashing import HashPlan, plan_hash
from octavo.kernels.engram_lookup.triton import gate, gather, lookup, row_ids

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def plan(heads: int = 3, max_ngram: int = 3, vocabulary: int = 129280) -> HashPlan:
    primes = [101, 103, 107, 109, 113, 127, 131, 137, 139, 149, 151, 157]
    count = (max_ngram - 1) * heads
    return plan_hash(
        layer=1, moduli=primes[:count], heads=heads, max_ngram=max_ngram, vocabulary=vocabulary, seed=5
    )


@pytest.mark.parametrize(("heads", "max_ngram"), [(1, 2), (3, 3), (4, 4), (5, 3)])
def test_addresses_are_the_hashings(heads: int, max_ngram: int) -> None:
    made = plan(heads, max_ngram)
    context = torch.randint(129280, (9, max_ngram), device=DEVICE)
    context[0] = 129279  # the largest products
    context[1] = 0
    assert torch.equal(row_ids(context, made), hashing.row_ids(context, made))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("d", [1, 12, 64])
def test_rows_and_their_gradient(d: int, dtype: torch.dtype) -> None:
    made = plan()
    table = torch.randn(made.rows, d, device=DEVICE).to(dtype).requires_grad_()
    context = torch.randint(4, (40, 3), device=DEVICE)  # few contexts: rows are read several times
    got, ids = lookup(context, table, made)
    assert torch.equal(ids, hashing.row_ids(context, made))
    assert torch.equal(got, ref.gather(table, ids))
    g = torch.randn(got.shape, device=DEVICE).to(dtype)
    (grad,) = torch.autograd.grad(got, table, g)
    wanted = torch.zeros(made.rows, d, device=DEVICE, dtype=torch.float64)
    wanted.index_add_(0, ids.flatten(), g.double().view(-1, d))
    assert grad.dtype == dtype
    torch.testing.assert_close(grad.double(), wanted, rtol=1e-5 if dtype == torch.float32 else 2**-7, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gathering_alone_has_the_same_gradient(dtype: torch.dtype) -> None:
    table = torch.randn(7, 12, device=DEVICE).to(dtype).requires_grad_()
    ids = torch.randint(7, (20, 9), device=DEVICE)
    got = gather(table, ids)
    assert torch.equal(got, ref.gather(table, ids))
    g = torch.randn(got.shape, device=DEVICE).to(dtype)
    (grad,) = torch.autograd.grad(got, table, g)
    wanted = torch.zeros(7, 12, device=DEVICE, dtype=torch.float64)
    wanted.index_add_(0, ids.flatten(), g.double().view(-1, 12))
    assert grad.dtype == dtype
    torch.testing.assert_close(grad.double(), wanted, rtol=1e-5 if dtype == torch.float32 else 2**-7, atol=1e-5)
    empty = gather(table, ids[:0])
    assert empty.shape == (0, 108)
    (grad,) = torch.autograd.grad(empty.sum(), table)
    assert not grad.any()


@pytest.mark.parametrize(("T", "M", "D"), [(5, 4, 24), (3, 1, 100)])
def test_gate_and_its_gradients(T: int, M: int, D: int) -> None:
    check_gate(T, M, D)


def test_gradients_where_programs_take_many_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("octavo.kernels.engram_lookup.triton._PROGRAMS", 7)
    check_gate(20, 2, 8)


def check_gate(T: int, M: int, D: int) -> None:
    leaves = [torch.randn(shape, device=DEVICE) for shape in ((T, M, D), (T, M, D), (M, D), (M, D))]
    narrow, wide = [x.clone().requires_grad_() for x in leaves], [x.double().requires_grad_() for x in leaves]
    got, wanted = gate(*narrow, 1e-6), ref.gate(*wide, 1e-6)
    torch.testing.assert_close(got.double(), wanted, rtol=0, atol=1e-5)
    g = torch.randn(T, M, device=DEVICE)
    for a, b in zip(torch.autograd.grad(got, narrow, g), torch.autograd.grad(wanted, wide, g.double()), strict=True):
        assert (a.double() - b).norm() <= 1e-4 * b.norm()


@pytest.mark.parametrize(("T", "M", "D", "programs"), [(5, 4, 24, 1056), (3, 1, 100, 1056), (20, 2, 8, 7)])
def test_recall_and_its_gradients(T: int, M: int, D: int, programs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_recall, "_PROGRAMS", programs)
    leaves = [torch.randn(shape, device=DEVICE) for shape in ((T, M, D), (T, (M + 1) * D), (M, D), (M, D))]
    narrow, wide = [x.clone().requires_grad_() for x in leaves], [x.double().requires_grad_() for x in leaves]
    keys, value = wide[1].split((M * D, D), dim=-1)
    wanted = ref.added(wide[0], ref.gate(wide[0], keys.view(T, M, D), *wide[2:], 1e-6), value)
    got, g = triton_recall.recall(*narrow, 1e-6), torch.randn(T, M, D, device=DEVICE)
    torch.testing.assert_close(got.double(), wanted, rtol=0, atol=1e-5)
    for a, b in zip(torch.autograd.grad(got, narrow, g), torch.autograd.grad(wanted, wide, g.double()), strict=True):
        assert (a.double() - b).norm() <= 1e-4 * b.norm()
    with pytest.raises(ValueError, match=r"both has the shape .*; it must be"):
        triton_recall.recall(leaves[0], leaves[1][:, 1:], *leaves[2:], 1e-6)


def test_gate_near_zero() -> None:
    """Below 1e-6 the root is that of 1e-6 with the sign of s, without a slope; at 0 the gate is 1/2."""
    D = 4
    streams = torch.tensor([[[1.0, 0, 0, 0]], [[1.0, 1e-7, 0, 0]], [[1.0, -1e-7, 0, 0]]], device=DEVICE)
    keys = torch.tensor([[[0.0, 1, 0, 0]]] * 3, device=DEVICE)
    gains = torch.ones(2, 1, D, device=DEVICE)
    leaves = [x.clone().requires_grad_() for x in (streams, keys, *gains)]
    out = gate(*leaves, 1e-6)
    step = torch.sigmoid(torch.tensor(1e-3)).item() - 0.5
    torch.testing.assert_close(out.flatten().tolist(), [0.5, 0.5 + step, 0.5 - step], rtol=0, atol=1e-7)
    assert not any(g.any() for g in torch.autograd.grad(out.sum(), leaves))


def test_nan_stays() -> None:
    streams, one = torch.full((1, 1, 4), torch.nan, device=DEVICE), torch.ones(1, 4, device=DEVICE)
    assert gate(streams, torch.ones_like(streams), one, one, 1e-6).isnan().all()


def test_no_tokens() -> None:
    made = plan()
    table = torch.randn(made.rows, 2, device=DEVICE, requires_grad=True)
    out, ids = lookup(torch.empty(0, 3, dtype=torch.int64, device=DEVICE), table, made)
    out.sum().backward()
    assert (out.shape, ids.shape) == ((0, 12), (0, 6))
    assert table.grad is not None
    assert not table.grad.any()
    nothing, one = torch.empty(0, 2, 4, device=DEVICE), torch.ones(2, 4, device=DEVICE, requires_grad=True)
    empty = gate(nothing, nothing, one, one, 1e-6)
    empty.sum().backward()
    assert empty.shape == (0, 2)
    assert one.grad is not None
    assert not one.grad.any()


def test_wrong_input() -> None:
    made = plan()
    context, table = torch.zeros(2, 3, dtype=torch.int64, device=DEVICE), torch.zeros(made.rows, 4, device=DEVICE)
    with pytest.raises(ValueError, match=r"context is torch.int64 \(2, 2\); .* \[T, 3\]"):
        lookup(context[:, :2], table, made)
    with pytest.raises(ValueError, match=r"context is torch.int32 \(2, 3\)"):
        row_ids(context.int(), made)
    with pytest.raises(ValueError, match=rf"table is .* \(7, 4\); .* of {made.rows} rows"):
        lookup(context, table[:7], made)
    x, one = torch.zeros(2, 3, 4, device=DEVICE), torch.ones(3, 4, device=DEVICE)
    with pytest.raises(ValueError, match=r"table is torch.float64 \(.*, 4\)"):
        gather(table.double(), context)
    with pytest.raises(ValueError, match=r"ids is torch.int32 \(2, 3\); it must be torch.int64"):
        gather(table, context.int())
    with pytest.raises(ValueError, match=r"keys has the shape \(1, 3, 4\); streams has \(2, 3, 4\)"):
        gate(x, x[:1], one, one, 1e-6)
    with pytest.raises(ValueError, match=r"k_weight has the shape \(2, 4\); it must be \(3, 4\)"):
        gate(x, x, one, one[:2], 1e-6)
    with pytest.raises(ValueError, match="streams is torch.float64 of 4 channels"):
        gate(x.double(), x, one, one, 1e-6)
