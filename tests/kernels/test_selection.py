"""Selections: a mask and a list of the same entries give the same attention and the same mass, in every body."""

from __future__ import annotations

import pytest
import torch

from octavo.kernels.dispatch import Body, use
from octavo.kernels.rows import DenseRows
from octavo.kernels.selection import WORD, Causal, Marked, Masked, Picked
from octavo.kernels.sparse_attention import sparse_attention


@pytest.mark.parametrize("body", Body)
def test_mask_and_list_say_the_same(body: Body) -> None:
    torch.manual_seed(0)
    q, rows, sink = torch.randn(2, 70, 2, 8), torch.randn(2, 70, 8), torch.randn(2)
    entries = DenseRows(torch.randn(2, 17, 8))
    index = torch.stack([torch.randperm(17)[:4] for _ in range(140)]).view(2, 70, 4)
    index[:, ::7, 2:] = -1
    seen = torch.zeros(2, 70, 18, dtype=torch.bool).scatter(2, index.masked_fill(index < 0, 17), True)[..., :17]
    call = {"first": 0, "window": 5, "scale": 0.5, "rows": entries, "mass_every": 1}
    with use(body):
        listed, listed_mass = sparse_attention(q, rows, sink, selection=Picked(index), **call)
        marked, marked_mass = sparse_attention(q, rows, sink, selection=Masked(seen), **call)
    torch.testing.assert_close(marked, listed)
    assert listed_mass is not None
    assert marked_mass is not None
    taken = marked_mass.gather(2, index.clamp_min(0)).masked_fill(index < 0, 0)
    torch.testing.assert_close(taken, listed_mass)
    torch.testing.assert_close(marked_mass.sum(-1), listed_mass.sum(-1))


@pytest.mark.parametrize("body", Body)
def test_all_visible_entries_marked_are_the_causal_ones(body: Body) -> None:
    torch.manual_seed(1)
    q, rows, sink = torch.randn(1, 40, 2, 8), torch.randn(1, 40, 8), torch.randn(2)
    entries = DenseRows(torch.randn(1, 10, 8))
    seen = torch.arange(10) < (torch.arange(1, 41) // 4).view(1, 40, 1)
    call = {"first": 0, "window": 5, "scale": 0.5, "rows": entries, "mass_every": 3}
    with use(body):
        causal, causal_mass = sparse_attention(q, rows, sink, selection=Causal(4), **call)
        marked, marked_mass = sparse_attention(q, rows, sink, selection=Masked(seen), **call)
    torch.testing.assert_close(marked, causal)
    torch.testing.assert_close(marked_mass, causal_mass)


@pytest.mark.parametrize("body", Body)
def test_marks_as_bits_are_marks(body: Body) -> None:
    torch.manual_seed(2)
    q, rows, sink = torch.randn(2, 30, 2, 8), torch.randn(2, 30, 8), torch.randn(2)
    seen = torch.rand(2, 30, WORD + 3) < 0.3
    seen[..., WORD - 1] = True  # the sign bit
    bits = torch.nn.functional.pad(seen.long(), (0, WORD - 3)).unflatten(-1, (2, WORD))
    selection = Marked((bits << torch.arange(WORD)).sum(-1), WORD + 3, 1)
    assert torch.equal(selection.of(slice(None)), seen)
    assert torch.equal(selection.of(slice(4, None, 5)), seen[:, 4::5])
    entries = DenseRows(torch.randn(2, WORD + 3, 8))
    call = {"first": 70, "window": 5, "scale": 0.5, "rows": entries, "mass_every": 2}
    with use(body):
        bitwise = sparse_attention(q, rows, sink, selection=selection, **call)
        bytewise = sparse_attention(q, rows, sink, selection=Masked(seen), **call)
    assert all(torch.equal(one, other) for one, other in zip(bitwise, bytewise, strict=True))
