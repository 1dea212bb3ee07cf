"""The conversation in the page: questions, quoted places, stopping, markup that stays text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.page import FACT, ask, ask_for_the_fact, expect, is_idle, read_story, shoot, told


def test_reads_asks_and_shows_the_place(page: Any, tmp_path: Path) -> None:
    read_story(page, tmp_path, "story")
    ask_for_the_fact(page)
    assert "heron" in page.inner_text(".turn.told .said").lower()
    assert FACT in page.inner_text(".turn.told .sources q >> nth=0")
    assert page.inner_text(".turn.told .sources q mark >> nth=0").lower() == "heron"
    assert FACT in page.inner_text("#text mark")
    in_sight = page.evaluate(
        "(() => { const [box, mark] = ['#text', '#text mark'].map((one) => document.querySelector(one)"
        ".getBoundingClientRect()); return box.top <= mark.top && mark.top < box.bottom; })()"
    )
    assert in_sight, "the highlighted place is scrolled away"
    shoot(page, "answer")
    page.emulate_media(color_scheme="dark")
    shoot(page, "dark")


def test_a_quotation_leads_back_to_its_place(page: Any, tmp_path: Path) -> None:
    read_story(page, tmp_path, "back", pages=120)
    ask_for_the_fact(page)
    page.focus("#map")
    page.keyboard.press("Home")
    expect(page, "#text").to_contain_text("Page 0:")
    expect(page, "#text mark").to_have_count(0)
    page.focus(".sources button >> nth=0")
    page.keyboard.press("Enter")
    expect(page, "#text mark").to_contain_text(FACT)
    expect(page, "#text").to_be_focused()


def endless(route: Any) -> None:
    """An answer that the model cannot end by itself."""
    route.continue_(post_data=json.dumps(route.request.post_data_json | {"guided_regex": "(la ){600}"}))


@pytest.mark.parametrize("by", ["key", "button"])
def test_a_stream_is_stopped(page: Any, address: str, by: str) -> None:
    page.route("**/v1/chat/completions", endless)
    page.fill("#length", "4000")
    ask(page, "Sing.")
    expect(page, ".turn.told .said").not_to_be_empty()
    if by == "key":
        page.keyboard.press("Escape")
    else:
        page.click("#stop")
    expect(page, ".turn.told > .quiet").to_have_text("stopped")
    assert page.is_enabled("#send")
    assert page.is_disabled("#stop")
    assert is_idle(address), "the job went on without anyone listening"


def test_the_end_of_an_answer_stays_in_sight(page: Any) -> None:
    page.set_viewport_size({"width": 400, "height": 320})
    page.route("**/v1/chat/completions", endless)
    page.fill("#length", "400")
    ask(page, "Sing.")
    expect(page, ".turn.told > .quiet").to_have_text("cut at the length you chose")
    below = page.evaluate("document.querySelector('.turn.told .said').getBoundingClientRect().bottom - innerHeight")
    assert page.evaluate("document.querySelector('.turn.told').offsetHeight") > 320, "too short to tell"
    assert below <= 0


def test_a_conversation_is_sent_whole_and_begun_anew(page: Any) -> None:
    sent: list[list[str]] = []
    page.on(
        "request",
        lambda one: sent.append([m["role"] for m in one.post_data_json["messages"]]) if one.method == "POST" else None,
    )
    page.fill("#length", "4")
    for turns in (1, 2):
        ask(page, "Say something.")
        expect(page, ".turn.told:not([aria-busy])").to_have_count(turns)
    page.click("#clear")
    expect(page, ".turn").to_have_count(0)
    expect(page, "#question").to_be_focused()
    ask(page, "Say something.")
    expect(page, ".turn.told:not([aria-busy])").to_have_count(1)
    assert sent == [["user"], ["user", "assistant", "user"], ["user"]]


def test_markup_of_the_model_stays_text(page: Any) -> None:
    told(page, "<img src=x onerror=alert(1)> **bold** <script>alert(2)</script>")
    expect(page, ".turn.told .said").to_contain_text("<script>")
    assert page.query_selector(".turn img, .turn script") is None


def test_an_empty_answer_says_so(page: Any) -> None:
    told(page, "")
    expect(page, ".turn.told > .quiet").to_have_text("no text")
