"""Documents of a row: borders, and entries that are numbered anew in each of them."""

from __future__ import annotations

import pytest
import torch

from octavo.cache.documents import Documents
from tests.support.packing import numbers, packings, restarted


def documents_of(*rows: tuple[int, ...]) -> Documents:
    return Documents(torch.stack([numbers(one) for one in rows]), torch.stack([restarted(one) for one in rows]))


def test_where_each_token_document_begins() -> None:
    documents = documents_of((3, 1, 4), (8,))
    assert documents.begin.tolist() == [[0, 0, 0, 3, 4, 4, 4, 4], [0] * 8]
    assert documents.begin.dtype == torch.int32
    assert documents.seen(0).all()
    assert documents.seen(1)[0].tolist() == [False, True, True, False, False, True, True, True]
    assert documents.seen(4)[1].tolist() == [False] * 4 + [True] * 4


def test_numbers_of_documents_need_only_differ_between_neighbours() -> None:
    given = torch.tensor([[7, 7, 2, 2, 7]])
    assert Documents(given, torch.arange(5).view(1, 5)).begin.tolist() == [[0, 0, 2, 2, 4]]


def test_entries_by_hand() -> None:
    """Documents of 3, 9 and 4 tokens: no entry, two, one."""
    entries = documents_of((3, 9, 4)).entries(4)
    assert entries.token.tolist()[0][:3] == [3, 7, 12]
    assert entries.fresh.tolist()[0][:3] == [True, False, True]
    assert entries.bounds.first.tolist() == [[0] * 3 + [0] * 9 + [2] * 4]
    assert entries.bounds.stop.tolist() == [[0] * 3 + [0, 0, 0, 1, 1, 1, 1, 2, 2] + [2, 2, 2, 3]]
    assert entries.bounds.marks(4)[0, 15].tolist() == [False, False, True, False]


@pytest.mark.parametrize("ratio", [4, 128])
@pytest.mark.parametrize("lengths", packings(12, seed=5))
def test_entries_are_those_of_each_document_alone(lengths: tuple[int, ...], ratio: int) -> None:
    documents = documents_of(lengths, lengths[::-1])
    entries = documents.entries(ratio)
    assert documents.entries(ratio) is entries
    assert entries.token.shape == (2, sum(lengths) // ratio)
    for row, order in enumerate((lengths, lengths[::-1])):
        token, fresh, first, stop = [], [], [], []
        start = 0
        for n in order:
            mine = [start + e * ratio for e in range(n // ratio)]
            first += [len(token)] * n
            stop += [len(token) + (t + 1) // ratio for t in range(n)]
            token += mine
            fresh += [e == 0 for e in range(len(mine))]
            start += n
        assert entries.token[row, : len(token)].tolist() == token
        assert entries.fresh[row, : len(token)].tolist() == fresh
        assert entries.bounds.first[row].tolist() == first
        assert entries.bounds.stop[row].tolist() == stop
        place = torch.arange(sum(lengths))
        assert bool((entries.bounds.stop[row] <= (place + 1) // ratio).all())  # as kernels take for granted
        position = documents.entry_positions(ratio)[row, : len(token)]
        assert position.tolist() == restarted(order)[token].tolist()
        every = documents.blocks(place.float().view(1, -1, 1).expand(2, -1, 3), ratio)[row, :, 0]
        assert every[: len(token) * ratio].tolist() == [t + i for t in token for i in range(ratio)]


def test_places_without_an_entry_read_tokens_that_exist() -> None:
    """A row of single tokens has none; one shorter than a block has no place for any."""
    entries = documents_of((1,) * 9).entries(4)
    assert entries.token.tolist() == [[0, 0]]
    assert not entries.bounds.stop.any()
    assert documents_of((2, 1)).entries(4).token.shape == (1, 0)
    assert documents_of((2, 1)).blocks(torch.zeros(1, 3, 5), 4).shape == (1, 0, 5)
