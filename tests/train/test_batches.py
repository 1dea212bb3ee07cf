"""Batches in order, ahead, again from an earlier step, and on the device in parts."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from octavo.train.batches import Arrays, Batches, to_device
from tests.support.training import feed_of, small_recipe


class Source:
    """Counts what was made and says when a feed was closed."""

    def __init__(self) -> None:
        self.made: list[int] = []
        self.closed = 0

    def __call__(self, step: int) -> Iterator[Arrays]:
        try:
            while True:
                self.made.append(step)
                yield {"tokens": np.array([step])}
                step += 1
        finally:
            self.closed += 1


def test_batches_are_made_when_needed_and_kept_until_dropped() -> None:
    source = Source()
    with Batches(source, 3) as batches:
        assert batches.at(3)["tokens"] == 3
        assert source.made == [3]
        assert batches.at(6)["tokens"] == 6
        assert batches.at(4)["tokens"] == 4
        assert source.made == [3, 4, 5, 6]
        batches.drop(5)
        assert batches.at(5)["tokens"] == 5
        with pytest.raises(KeyError):
            batches.at(4)
    assert source.closed == 1


def test_going_back_makes_the_same_again() -> None:
    source = Source()
    batches = Batches(source, 0)
    batches.at(5)
    batches.back_to(2)
    assert source.closed == 1
    assert batches.at(2)["tokens"] == 2
    assert source.made[-1] == 2


def test_parts_hold_all_rows() -> None:
    recipe = small_recipe()
    batch = next(iter(feed_of(recipe, 0))) | {"dilution": np.arange(4, dtype=np.float32), "spans": np.zeros(1)}
    parts = to_device(batch, torch.device("cpu"), 3)
    assert [p.tokens.shape[0] for p in parts] == [1, 1, 2]
    assert torch.equal(torch.cat([p.tokens for p in parts]), torch.from_numpy(batch["tokens"].astype(np.int64)))
    assert [p.dilution.tolist() for p in parts if p.dilution is not None] == [[0.0], [1.0], [2.0, 3.0]]
    assert all(p.kind is not None and not p.kind.any() for p in parts)
    assert len(to_device(batch, torch.device("cpu"), 9)) == 4


def test_parts_without_borders_have_none() -> None:
    document = np.zeros((4, 32), dtype=np.int32)
    document[3, 5:] = 1
    batch = next(iter(feed_of(small_recipe(), 0))) | {"document": document}
    first, second = to_device(batch, torch.device("cpu"), 2)
    assert first.document is None
    assert second.document is not None
    assert torch.equal(second.document, torch.from_numpy(document[2:]))
