"""Token embedding: rows by id, gradients of repeated ids, no tokens."""

from __future__ import annotations

import torch

from octavo.model.embed import Embedding


def test_rows_by_id_and_summed_gradients() -> None:
    embed = Embedding(5, 3)
    torch.nn.init.normal_(embed.weight)
    ids = torch.tensor([4, 0, 4])
    assert torch.equal(embed(ids), embed.weight[ids])
    embed(ids).sum().backward()
    assert embed.weight.grad is not None
    assert embed.weight.grad[:, 0].tolist() == [1, 0, 0, 0, 2]


def test_no_tokens() -> None:
    assert Embedding(5, 3)(torch.zeros(0, dtype=torch.int64)).shape == (0, 3)
