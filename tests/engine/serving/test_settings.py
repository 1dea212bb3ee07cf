"""Settings: limits, and pages out of bytes."""

from __future__ import annotations

import pytest

from octavo.config.errors import LimitError, UsageError
from octavo.engine.serving.settings import CHUNK, GPU_CHUNK, ServiceSettings, free_memory


@pytest.mark.parametrize("name", ["lanes", "max_running", "cache_bytes", "disk_bytes"])
def test_at_least_one(name: str) -> None:
    assert ServiceSettings(**{name: 1})
    with pytest.raises(LimitError, match=f"{name} is 0; it must be at least 1"):
        ServiceSettings(**{name: 0})


def test_an_empty_queue_is_allowed() -> None:
    assert ServiceSettings(max_queue=0).max_queue == 0
    for seconds in (-1.0, float("inf")):
        with pytest.raises(LimitError, match=f"warm_seconds is {seconds}; it must be a finite number from 0"):
            ServiceSettings(warm_seconds=seconds)
    with pytest.raises(LimitError, match="max_queue is -1"):
        ServiceSettings(max_queue=-1)


def test_pages() -> None:
    assert ServiceSettings(cache_bytes=1000).pages(300) == 3
    with pytest.raises(LimitError, match="cache_bytes is 299; one page of this model takes 300"):
        ServiceSettings(cache_bytes=299).pages(300)
    assert ServiceSettings().pages(1) in range(free_memory() // 4, free_memory())


def test_memory_is_that_of_the_device() -> None:
    with pytest.raises(UsageError, match="device is 'cuda:99'; there are"):
        free_memory("cuda:99")
    with pytest.raises(UsageError, match="device is 'cuda:99'"):
        ServiceSettings().pages(300, "cuda:99")
    assert ServiceSettings(cache_bytes=1000).pages(300, "cuda:99") == 3


def test_a_chunk_is_a_page() -> None:
    assert CHUNK == 256
    assert GPU_CHUNK % CHUNK == 0
