"""Memory in large pages."""

from __future__ import annotations

import mmap
from pathlib import Path

import pytest
import torch

from octavo.kernels.memory import in_large_pages, in_large_pages_soon, will_be_large

LARGE = 1 << 21
linux = pytest.mark.skipif(
    not Path("/sys/kernel/mm/transparent_hugepage/enabled").exists(), reason="this system has no large pages"
)


def flags_at(address: int) -> list[str]:
    """The flags of the mapping that holds an address, from /proc/self/smaps."""
    inside = False
    for line in Path("/proc/self/smaps").read_text("utf-8").splitlines():
        first = line.split()[0]
        if "-" in first and not first.endswith(":"):
            lo, hi = (int(number, 16) for number in first.split("-"))
            inside = lo <= address < hi
        elif inside and first == "VmFlags:":
            return line.split()[1:]
    raise AssertionError("no mapping holds the address")


@linux
def test_memory_that_was_not_written_will_be_large_where_whole_pages_lie_in_it() -> None:
    with mmap.mmap(-1, 4 * LARGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as mapped:
        whole = torch.frombuffer(mapped, dtype=torch.uint8)
        start = -whole.data_ptr() % LARGE
        tensor = whole[start + 8 : start + 8 + 2 * LARGE]  # one whole page
        will_be_large([tensor])
        first = whole.data_ptr() + start
        assert "hg" in flags_at(first + LARGE)
        assert "hg" not in flags_at(first)
        assert "hg" not in flags_at(first + 2 * LARGE)
        del whole, tensor


def test_tensors_keep_their_place_and_their_values_in_large_pages() -> None:
    tensors = [torch.arange(n, dtype=torch.float32) for n in (3, 1 << 20, 1 << 21)]
    places = [tensor.data_ptr() for tensor in tensors]
    made = in_large_pages(tensors)
    assert made % LARGE == 0
    assert made <= sum(tensor.nbytes + 2 * LARGE for tensor in tensors)
    assert [tensor.data_ptr() for tensor in tensors] == places
    for tensor in tensors:
        assert torch.equal(tensor, torch.arange(len(tensor), dtype=torch.float32))


def test_tensors_can_be_used_while_they_are_moved() -> None:
    tensor = torch.arange(1 << 23, dtype=torch.float32)
    thread = in_large_pages_soon([tensor])
    while thread.is_alive():
        tensor[::4096] += 1
        assert tensor[0] == tensor[4096] - 4096 == tensor[-4096] - (len(tensor) - 4096)
    thread.join()
    added = int(tensor[0])
    assert torch.equal(tensor[::4096], torch.arange(0, 1 << 23, 4096) + float(added))
    assert torch.equal(tensor[1::4096], torch.arange(1, 1 << 23, 4096).float())


def test_what_is_not_in_memory_or_empty_is_left_alone() -> None:
    others = [torch.empty(0), torch.empty(1 << 22, device="meta")]
    will_be_large(others)
    assert in_large_pages(others) == 0
