"""A server over the shipped octavo-xs, a real Chromium, and a fresh page in it for each test.

Without a Chromium these tests are skipped and say how to get one; one that does not start fails them.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from tests.support import chromium
from tests.support.page import WAIT_MS, expect

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = chromium.find()
    with sync_api.sync_playwright() as play:
        if found is None and not Path(play.chromium.executable_path).is_file():
            pytest.skip(f"no Chromium to run the page in; this needs {chromium.HOW}")
        with play.chromium.launch(
            executable_path=found and found.path,
            env=os.environ | (found.variables if found else {}),
            args=["--no-sandbox"],  # root, as in containers, cannot have Chromium's own
        ) as browser:
            yield browser


@pytest.fixture(scope="session")
def address(browser: Any) -> Iterator[str]:
    """A server over octavo-xs on a free port; not started where no browser will ask it."""
    import octavo
    from octavo.engine.serving.service import Service
    from octavo.server.app import create_app

    app = create_app(Service(octavo.load(str(ROOT / "weights" / "octavo-xs"))))
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=2))
    started = threading.Event()
    startup = server.startup

    async def told(sockets: list[socket.socket] | None = None) -> None:
        await startup(sockets)
        started.set()

    server.startup = told  # type: ignore[method-assign]
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    assert started.wait(60), "the server did not start"
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    server.should_exit = True
    thread.join(60)
    listening.close()
    assert not thread.is_alive()


@pytest.fixture
def wrong() -> list[str]:
    """What went wrong in the page; a test that meant some of it to takes that out."""
    return []


@pytest.fixture
def page(browser: Any, address: str, wrong: list[str]) -> Iterator[Any]:
    """A fresh page and no documents; what it logs as an error or asks of another host fails the test."""
    context = browser.new_context(viewport={"width": 1120, "height": 680})
    page = context.new_page()
    page.set_default_timeout(WAIT_MS)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
    page.on(
        "request", lambda sent: None if sent.url.startswith((address, "data:", "blob:")) else wrong.append(sent.url)
    )
    page.goto(address)
    expect(page, "#model").not_to_be_empty()
    yield page
    context.close()
    for one in httpx.get(f"{address}/v1/documents").json()["data"]:
        httpx.delete(f"{address}/v1/documents/{one['name']}")
    assert wrong == []
