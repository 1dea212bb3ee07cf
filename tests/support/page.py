"""What a person does at the page, for the tests that drive it in a browser. Does not cover: starting either."""

from __future__ import annotations

import io
import json
import os
import re
import time
from pathlib import Path
from typing import Any

import httpx
from PIL import Image

FACT = "The secret word of the lighthouse keeper is heron."
QUESTION = "What is the secret word of the lighthouse keeper?"
WAIT_MS = 60_000
MOST_BYTES = 150_000


def story(pages: int = 60) -> str:
    """Numbered lines that are all alike, and FACT in the middle."""
    lines = [
        f"Page {n}: the keeper wrote the date, {n} gulls sat on the rail, and the sea was calm." for n in range(pages)
    ]
    return "\n".join([*lines[: pages // 2], FACT, *lines[pages // 2 :]]) + "\n"


def expect(page: Any, selector: str) -> Any:
    """Assertions that wait; they compile nothing in the page, whose policy forbids that."""
    from playwright.sync_api import expect

    expect.set_options(timeout=WAIT_MS)
    return expect(page.locator(selector))


def choose_file(page: Any, folder: Path, name: str, text: str) -> None:
    """Give the page a file by its file field."""
    path = folder / f"{name}.txt"
    path.write_text(text, encoding="utf-8")
    page.set_input_files("#file", path)


def until_read(page: Any, name: str) -> None:
    page.wait_for_selector(f".choose[aria-pressed=true]:has-text('{name}')")
    page.wait_for_selector("#look:not([hidden])")


def read_story(page: Any, folder: Path, name: str, pages: int = 60) -> None:
    choose_file(page, folder, name, story(pages))
    until_read(page, name)


def ask(page: Any, question: str) -> None:
    page.fill("#question", question)
    page.press("#question", "Enter")


def ask_for_the_fact(page: Any) -> None:
    """Ask, and wait until the place is quoted and highlighted."""
    ask(page, QUESTION)
    page.wait_for_selector(".turn.told .sources q")
    page.wait_for_selector("#text mark")


def told(page: Any, content: str) -> None:
    """The next answer is this one: what a small model writes cannot be chosen."""
    chunk = {"choices": [{"index": 0, "delta": {"content": content}, "finish_reason": "stop"}]}
    body = f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n"
    page.route("**/v1/chat/completions", lambda route: route.fulfill(body=body, content_type="text/event-stream"))
    ask(page, "Write a program.")


def ran(page: Any, program: str) -> str:
    """What a program printed."""
    told(page, f"Here it is:\n```js\n{program}\n```\nThat is all.")
    page.click(".code button:has-text('Run')")
    page.wait_for_selector(".code button:has-text('Run'):enabled")
    return page.inner_text(".ran")


def is_idle(address: str) -> bool:
    """Whether no job runs, within a minute."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        if re.search(r"^octavo:num_requests_running\S* 0\.0$", httpx.get(f"{address}/metrics").text, re.MULTILINE):
            return True
    return False


def shoot(page: Any, name: str, selector: str | None = None) -> None:
    """Leave a screenshot, of one part or of what is in sight, in the folder that OCTAVO_PAGE_FIGURES names, if any."""
    folder = os.environ.get("OCTAVO_PAGE_FIGURES")
    if folder:
        path = Path(folder) / f"{name}.png"
        with Image.open(io.BytesIO((page.locator(selector) if selector else page).screenshot())) as picture:
            picture.convert("RGB").quantize(256).save(path, optimize=True)
        assert path.stat().st_size < MOST_BYTES


def refused(wrong: list[str], times: int, *, status: int = 400) -> None:
    """Take out of what went wrong the refusals that the test meant: a browser logs each answer of `status`."""
    meant = [one for one in wrong if f"status of {status}" in one]
    assert len(meant) == times, wrong
    wrong[:] = [one for one in wrong if one not in meant]
