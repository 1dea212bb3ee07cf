"""Many queries over all of many entries where there is no compiled code: the reference's result at every border."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from octavo.kernels.dispatch import Body, use
from octavo.kernels.rows import DenseRows
from octavo.kernels.selection import Causal
from octavo.kernels.sparse_attention import chunk, spans, sparse_attention
from tests.support.bodies import take

RATIO, WINDOW = 4, 9


@pytest.fixture(autouse=True)
def short_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    take("numba", monkeypatch)
    monkeypatch.setattr(spans, "SPAN", 8)
    monkeypatch.setattr(chunk, "_ELEMENTS", 1 << 14)  # runs of 32 and 64 queries


def world(S: int, entries: int, *, past: int = WINDOW - 1) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(S + entries)
    draw = lambda *shape: torch.randn(*shape, generator=generator)  # noqa: E731
    return draw(1, S, 3, 16), draw(1, past + S, 16), draw(3), draw(1, entries, 16)


@torch.no_grad()
def both(
    q: Tensor, near: Tensor, sink: Tensor, rows: Tensor, *, first: int, offset: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    given = {"first": first, "window": WINDOW, "scale": 0.3, "rows": DenseRows(rows)}
    found, mass = sparse_attention(q, near, sink, selection=Causal(RATIO, offset), **given)
    assert mass is None
    with use(Body.REFERENCE):
        return found, sparse_attention(q, near, sink, selection=Causal(RATIO, offset), **given)[0]


@pytest.mark.parametrize("S", [16, 33, 100, 200])
@pytest.mark.parametrize("first", [0, 33, 100])
@pytest.mark.parametrize("offset", [None, torch.tensor([1.5])])
def test_the_reference_agrees(S: int, first: int, offset: Tensor | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """From queries that see no entry yet to those that see the last, in the midst of a span and at its ends."""
    calls, real = [], spans.attend_spans
    monkeypatch.setattr(spans, "attend_spans", lambda *given: (calls.append(0), real(*given)))
    entries = (first + S) // RATIO
    found, wanted = both(*world(S, entries, past=min(first, WINDOW - 1)), first=first, offset=offset)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)
    assert bool(calls) == (entries > spans.SPAN)


def test_the_highest_logit_comes_late() -> None:
    """What was summed before an entry that outweighs all shrinks to nothing; large logits stay finite."""
    q, near, sink, rows = world(32, 60)
    rows[0, 45] = q[0, 20, 1] * 60
    found, wanted = both(q, near, sink, rows, first=220)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_mass_is_reported_by_the_other_way_with_the_same_result() -> None:
    q, near, sink, rows = world(64, 60)
    given = {"first": 190, "window": WINDOW, "scale": 0.3, "rows": DenseRows(rows), "selection": Causal(RATIO)}
    plain, none = sparse_attention(q, near, sink, **given)
    told, mass = sparse_attention(q, near, sink, **given, mass_every=1)
    assert none is None
    assert mass is not None
    torch.testing.assert_close(plain, told, rtol=1e-5, atol=1e-6)
