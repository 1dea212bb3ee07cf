"""Chunks of rows: the only chunk of one rank is the row; the parts of the view. Several chunks: `test_sharding`."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.distributed as dist

from octavo.cache.view import Controls, FreshRows, PastRows, View
from octavo.config.errors import UsageError
from octavo.train.parallel.context import ChunkRows, Context
from octavo.train.parallel.ranks import Ranks
from octavo.train.step import view_of
from tests.support.spread_run import config
from tests.support.training import fresh, plan_of, random_batch


def test_whole_rows_have_no_context() -> None:
    assert Context.of(Ranks(), config()) is None


def test_one_chunk_is_the_row(one_rank: dist.ProcessGroup) -> None:
    model, _ = fresh(config())
    context, batch = Context(one_rank, model.config), random_batch(2, length=128)
    assert torch.equal(context.part(batch.tokens), batch.tokens)
    controls = Controls(index_topk=4, load=True)
    view = context.view(batch.tokens, batch.positions, controls)
    plain = View.packed([0, 128, 256], positions=batch.positions.flatten(), controls=controls)
    made = [model(batch.tokens.flatten(), one).streams for one in (view, plain)]
    torch.testing.assert_close(made[0], made[1])
    assert [t.tolist() for t in context.add([torch.tensor([1, 2]), torch.tensor(3.0)])] == [[1, 2], 3]


def test_chunks_of_rows_of_several_documents_are_refused(one_rank: dist.ProcessGroup) -> None:
    batch, context = random_batch(2, length=128), Context(one_rank, config())
    document = (torch.arange(128) >= 50).int().expand(2, 128)
    with pytest.raises(UsageError, match=r"rows hold several documents; cp is 1, and only whole rows \(cp 1\) may"):
        view_of(replace(batch, document=document), plan_of(), context=context)
    assert view_of(batch, plan_of(), context=context).groups[0].documents is None


def test_what_comes_before_a_chunk(one_rank: dist.ProcessGroup) -> None:
    tokens, positions = torch.arange(512).view(2, 256), 7 * torch.arange(256).expand(2, 256)
    past = ChunkRows(Context(one_rank, config()), tokens, positions[:, 128:])
    whole: PastRows = FreshRows(positions)
    past.first = 128  # as the second of two chunks
    assert past.ids_before(3).tolist() == [[125, 126, 127], [381, 382, 383]]
    assert past.ids_before(200).shape == (2, 128)
    for ratio in (4, 128):
        start, stop = 128 // ratio, 256 // ratio
        assert torch.equal(past.entry_positions(start, stop, ratio), whole.entry_positions(start, stop, ratio))
