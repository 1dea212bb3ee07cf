"""FlexAttention's body against the reference, forward (its backward pass exists on GPUs alone), and its block lists."""

from __future__ import annotations

import pytest
import torch

from octavo.kernels.index_topk import index_topk
from octavo.kernels.index_topk.masked import masked_topk
from octavo.kernels.rows import DenseRows
from octavo.kernels.selection import Causal, Masked, Selection
from octavo.kernels.sparse_attention import flex
from octavo.kernels.sparse_attention.ref import reference_attention

S, H, K = 384, 2, 16


def picks(C: int) -> Masked:
    """Twelve entries a query, by random index scores."""
    q, w, keys = torch.randn(2, S, 2, 8), torch.randn(2, S, 2), DenseRows(torch.randn(2, C, 8))
    return Masked(masked_topk(q, w, keys, first=0, ratio=S // C, k=12))


# Uncompiled, FlexAttention is its own slow definition, and says so.
@pytest.mark.filterwarnings("ignore:flex_attention called without:UserWarning")
@pytest.mark.parametrize("window", [128, 40, 200])
@pytest.mark.parametrize("kind", ["window", "ratio 4", "ratio 128", "offset", "picked"])
def test_equals_the_reference(kind: str, window: int) -> None:
    torch.manual_seed(0)
    C = 3 if kind == "ratio 128" else S // 4
    offset = torch.tensor([0.0, 2.5])
    makers = {
        "window": lambda: None, "ratio 4": lambda: Causal(4), "ratio 128": lambda: Causal(128),
        "offset": lambda: Causal(4, offset),
    }  # fmt: skip
    selection: Selection | None = makers[kind]() if kind in makers else picks(C)
    q, rows, sink = torch.randn(2, S, H, K), torch.randn(2, S, K), torch.randn(H)
    entries = None if selection is None else DenseRows(torch.randn(2, C, K))
    call = {"first": 0, "window": window, "scale": 0.25, "rows": entries, "selection": selection, "mass_every": 5}
    with torch.no_grad():
        o, mass = flex.flex_attention_of_rows(q, rows, sink, **call)
    expected, expected_mass = reference_attention(q, rows, sink, **call)
    torch.testing.assert_close(o, expected, atol=2e-6, rtol=1e-5)
    if selection is None:
        assert mass is None
        return
    assert mass is not None
    assert mass.shape == (2, S // 5, C)
    torch.testing.assert_close(mass, expected_mass, atol=2e-6, rtol=1e-5)


def test_the_mask_marks_what_the_index_lists() -> None:
    torch.manual_seed(1)
    q, w = torch.randn(2, 70, 3, 8), torch.randn(2, 70, 3)
    keys = DenseRows(torch.randn(2, 17, 8).round())  # ties
    q = q.round()
    for first in (0, 3):
        listed = index_topk(q, w.round(), keys, first=first, ratio=4, k=6)
        marked = masked_topk(q, w.round(), keys, first=first, ratio=4, k=6)
        for b in range(2):
            for s in range(70):
                assert marked[b, s].nonzero().flatten().tolist() == sorted(listed[b, s][listed[b, s] >= 0].tolist())


def test_which_calls_fit() -> None:
    q, rows = torch.zeros(1, 256, 2, 8, dtype=torch.bfloat16), torch.zeros(1, 256, 8)
    assert flex.fits(q, rows, first=0, selection=None)
    assert not flex.fits(q, rows, first=128, selection=None)
    assert not flex.fits(q.float(), rows, first=0, selection=None)
    assert not flex.fits(q[:, :200], rows[:, :200], first=0, selection=Causal(4))
    assert not flex.fits(q, torch.zeros(1, 300, 8), first=0, selection=None)
