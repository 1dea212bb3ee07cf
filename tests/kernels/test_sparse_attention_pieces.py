"""Attention by pieces: the reference's result, the same bits whatever else is computed with it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from octavo.kernels.dispatch import Body, use
from octavo.kernels.rows import DenseRows
from octavo.kernels.selection import Causal
from octavo.kernels.sparse_attention import pieces, sparse_attention

RATIO, WINDOW = 4, 8


def world(S: int, *, entries: int = 700, H: int = 5, K: int = 24) -> tuple[Tensor, Tensor, Tensor, Tensor, int]:
    """Queries, window rows, sink, entries, and the first query's token: some entries close before the end."""
    generator = torch.Generator().manual_seed(entries + S)
    draw = lambda *shape: torch.randn(*shape, generator=generator)  # noqa: E731
    return draw(1, S, H, K), draw(1, WINDOW - 1 + S, K), draw(H), draw(1, entries, K), entries * RATIO - S - 1


def attend(
    q: Tensor, near: Tensor, sink: Tensor, rows: Tensor, first: int, **more: int
) -> tuple[Tensor, Tensor | None]:
    return sparse_attention(
        q, near, sink, first=first, window=WINDOW, scale=0.3, rows=DenseRows(rows), selection=Causal(RATIO), **more
    )


@pytest.mark.parametrize("S", [1, 3, 8])
@pytest.mark.parametrize("entries", [514, 576, 700])
@pytest.mark.parametrize("mass_every", [0, 1, 2])
@torch.no_grad()
def test_the_reference_agrees(S: int, entries: int, mass_every: int) -> None:
    given = world(S, entries=entries + 2)
    found, mass = attend(*given, mass_every=mass_every)
    with use(Body.REFERENCE):
        wanted, weight = attend(*given, mass_every=mass_every)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)
    assert (mass is None) == (weight is None)
    if mass is not None:
        torch.testing.assert_close(mass, weight, rtol=1e-5, atol=1e-7)


@torch.no_grad()
def test_huge_logits_and_one_piece_that_outweighs_all() -> None:
    q, near, sink, rows, first = world(2)
    rows[0, 333] = q[0, 1, 2] * 100
    found, _ = attend(q, near, sink, rows, first)
    with use(Body.REFERENCE):
        wanted, _ = attend(q, near, sink, rows, first)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_bits_do_not_depend_on_company_or_threads() -> None:
    q, near, sink, rows, first = world(6, entries=4_000)
    together, mass = attend(q, near, sink, rows, first, mass_every=1)
    assert mass is not None
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    again, _ = attend(q, near, sink, rows, first)
    torch.set_num_threads(threads)
    assert torch.equal(together, again)
    for s in range(6):
        alone, own = attend(q[:, s : s + 1], near[:, s : s + WINDOW], sink, rows, first + s, mass_every=1)
        assert torch.equal(alone[:, 0], together[:, s])
        assert own is not None
        assert torch.equal(own[:, 0], mass[:, s])


@torch.no_grad()
def test_bits_at_the_border_where_pieces_begin() -> None:
    """Eight queries of which the first see no more than the loops serve: each as alone."""
    q, near, sink, rows, _ = world(8, entries=600)
    first = 4 * pieces._FEW - 1  # the fifth query sees one entry more than the loops are given
    together, mass = attend(q, near, sink, rows, first, mass_every=1)
    assert mass is not None
    for s in range(8):
        alone, own = attend(q[:, s : s + 1], near[:, s : s + WINDOW], sink, rows, first + s, mass_every=1)
        assert torch.equal(alone[:, 0], together[:, s])
        assert own is not None
        assert torch.equal(own[:, 0], mass[:, s])
    with use(Body.REFERENCE):
        wanted, weight = attend(q, near, sink, rows, first, mass_every=3)
    torch.testing.assert_close(together, wanted, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(mass[:, 2::3], weight, rtol=1e-5, atol=1e-7)
