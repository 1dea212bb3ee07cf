"""The page of a server that asks for a key: it asks the person, says when it was the wrong one, and keeps it.

Covers: the form, every kind of request that the page makes with a key, where the key lies. Does not cover: comparing
keys (`tests.server.test_auth`).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from octavo.server.settings import ServerSettings
from tests.server.web.test_access import FOUND, RULES
from tests.support import chromium
from tests.support.page import WAIT_MS, ask, choose_file, expect, refused, story, until_read
from tests.support.serving import SECONDS, serving

KEY = "a-key-that-is-long-enough"


@pytest.fixture(scope="module")
def guarded(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server over a tiny model."""
    settings = ServerSettings(served_name="tiny", api_keys=(KEY,), drain_seconds=SECONDS)
    with serving(tmp_path_factory.mktemp("keys"), settings) as (address, service):
        yield address
        for name in service.library.names():
            service.library.remove(name)


@pytest.fixture
def locked(browser: Any, guarded: str) -> Iterator[tuple[Any, list[str]]]:
    """A page that nobody gave a key to, and what it logs as errors."""
    context, wrong = browser.new_context(viewport={"width": 1120, "height": 680}), list[str]()
    page = context.new_page()
    page.set_default_timeout(WAIT_MS)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
    page.goto(guarded)
    yield page, wrong
    context.close()
    refused(wrong, len(wrong), status=401)


def unlock(page: Any, key: str = KEY) -> None:
    page.fill("#key", key)
    page.press("#key", "Enter")


def test_a_key_is_asked_for_and_a_wrong_one_is_told(locked: tuple[Any, list[str]]) -> None:
    page, wrong = locked
    expect(page, "#key-form").to_be_visible()
    expect(page, "#key").to_be_focused()
    expect(page, "#problem").to_be_visible()
    assert page.inner_text("#model") == ""
    assert page.get_attribute("#key", "type") == "password"
    with page.expect_response(lambda one: one.url.endswith("/v1/models") and one.status == 401):
        unlock(page, "no-key-of-this-server")
    expect(page, "#key-form").to_be_visible()
    expect(page, "#key").to_be_focused()
    expect(page, "#key").to_have_value("")
    expect(page, "#problem").to_contain_text("key")
    unlock(page)
    expect(page, "#model").to_have_text("tiny")
    expect(page, "#key-form").to_be_hidden()
    expect(page, "#problem").to_be_hidden()
    assert wrong


def test_all_that_the_page_does_goes_on_with_the_key(locked: tuple[Any, list[str]], tmp_path: Path) -> None:
    page, wrong = locked
    unlock(page)
    expect(page, "#model").to_have_text("tiny")
    expect(page, "#memory-text").to_contain_text("pages")
    refusals = len(wrong)
    choose_file(page, tmp_path, "kept", story(20))
    until_read(page, "kept")
    page.fill("#length", "3")
    ask(page, "Who?")
    expect(page, ".turn.told").to_have_count(1)
    expect(page, "#send").to_be_enabled()
    page.click("#fold-here")
    page.wait_for_selector("#fold .entry")
    assert len(wrong) == refusals
    assert KEY not in page.content()


def test_the_key_stays_in_its_tab(locked: tuple[Any, list[str]], guarded: str) -> None:
    page, wrong = locked
    unlock(page)
    expect(page, "#model").to_have_text("tiny")
    refusals = len(wrong)
    page.reload()
    expect(page, "#model").to_have_text("tiny")
    expect(page, "#key-form").to_be_hidden()
    assert len(wrong) == refusals
    other = page.context.new_page()
    other.goto(guarded)
    expect(other, "#key-form").to_be_visible()
    assert page.context.cookies() == []
    assert page.evaluate("localStorage.length") == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_while_a_key_is_asked_for(locked: tuple[Any, list[str]], scheme: str) -> None:
    page, _ = locked
    source = chromium.axe()
    if source is None:
        pytest.skip("axe-core was not fetched; `make browser` does that")
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    expect(page, "#key-form").to_be_visible()
    page.evaluate(source)
    assert page.evaluate(FOUND, RULES) == []
