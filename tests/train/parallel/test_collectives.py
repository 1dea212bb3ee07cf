"""Exchanges of one rank: what goes out comes back, and so does the gradient. Several ranks: `test_sharding`."""

from __future__ import annotations

import torch
import torch.distributed as dist

from octavo.train.parallel.collectives import counts_from, exchange, gather, swap


def test_rows_and_gradients_come_back(one_rank: dist.ProcessGroup) -> None:
    x, y = torch.randn(4, 3, requires_grad=True), torch.randn(4, requires_grad=True)
    a, b = swap((x, y), [4], [4], one_rank)
    (a * 2).sum().backward()  # b is not used, and takes part all the same
    assert torch.equal(a, x)
    assert torch.equal(b, y)
    assert torch.equal(x.grad, torch.full_like(x, 2)) if x.grad is not None else False
    assert torch.equal(y.grad, torch.zeros_like(y)) if y.grad is not None else False


def test_no_rows_are_rows_too(one_rank: dist.ProcessGroup) -> None:
    x = torch.randn(0, 3, requires_grad=True)
    (got,) = swap((x,), [0], [0], one_rank)
    got.sum().backward()
    assert got.shape == (0, 3)
    assert x.grad is not None
    assert counts_from([0], one_rank, torch.device("cpu")) == [0]
    assert exchange(torch.arange(3), [3], [3], one_rank).tolist() == [0, 1, 2]


def test_gathered_rows_keep_their_batch(one_rank: dist.ProcessGroup) -> None:
    x = torch.randn(2, 3, 4, dtype=torch.bfloat16, requires_grad=True)
    every = gather(x, one_rank)
    every.float().square().sum().backward()
    assert torch.equal(every, x)
    assert x.grad is not None
    assert x.grad.dtype == torch.bfloat16
    torch.testing.assert_close(x.grad, 2 * x.detach())
