"""A server over a tiny model, for the tests of one protocol."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.support.serving import SECONDS, Overheard, serving


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[httpx.Client, Overheard]]:
    with (
        serving(tmp_path_factory.mktemp("model")) as (address, service),
        httpx.Client(base_url=address, timeout=SECONDS) as client,
    ):
        yield client, service


@pytest.fixture(scope="module")
def client(served: tuple[httpx.Client, Overheard]) -> httpx.Client:
    return served[0]
