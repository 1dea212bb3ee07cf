"""Places of packed rows."""

from __future__ import annotations

import torch

from octavo.kernels.paged import PagedStore, Places, Ring


def test_places_of_a_step() -> None:
    places = Places.of([5, 0], [2, 1])
    assert places.sequence.tolist() == [0, 0, 1]
    assert places.position.tolist() == [5, 6, 0]
    assert places.position.dtype == places.sequence.dtype == torch.int32


def test_sizes_follow_from_the_tensors() -> None:
    store = PagedStore(torch.zeros(64, 8, dtype=torch.uint8), torch.zeros(1, 1, dtype=torch.int32), 4, 2, "fp32")
    assert store.per_page == 64
    assert Ring(torch.zeros(2, 16, 8)).length == 16
