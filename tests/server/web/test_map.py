"""The map strip and the fold: what is drawn for an answer, jumping by keys and pointer, which tokens an entry kept."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.support.page import ask_for_the_fact, expect, read_story, shoot

# The painted colours at heights of the strip (CSS pixels), from left to right, as "r,g,b,a".
ROW = """(top) => {
  const canvas = document.querySelector("#map");
  const scale = canvas.width / canvas.clientWidth;
  const { data } = canvas.getContext("2d").getImageData(0, Math.floor(top * scale), canvas.width, 1);
  return Array.from({ length: canvas.width }, (_, i) => data.slice(4 * i, 4 * i + 4).join(","));
}"""
COLOUR = """(name) => {
  const paint = document.createElement("canvas").getContext("2d");
  paint.fillStyle = getComputedStyle(document.documentElement).getPropertyValue(name);
  paint.fillRect(0, 0, 1, 1);
  return paint.getImageData(0, 0, 1, 1).data.join(",");
}"""
CONTENTS, TICK_FOOT, PLACES = 12, 45, 53


def where(page: Any, top: int, colour: str) -> list[float]:
    """The places of a row, 0 to 1, that have a colour of the style sheet."""
    row, wanted = page.evaluate(ROW, top), page.evaluate(COLOUR, colour)
    return [i / len(row) for i, found in enumerate(row) if found == wanted]


def test_an_answer_is_drawn_where_it_came_from(page: Any, tmp_path: Path) -> None:
    read_story(page, tmp_path, "drawn", pages=200)
    assert where(page, CONTENTS, "--accent") == []
    assert where(page, TICK_FOOT, "--accent") == []
    assert min(where(page, PLACES, "--quiet")) > 0.9, "the window stands at the end"
    ask_for_the_fact(page)
    expect(page, "#map-legend").to_contain_text("table of contents")
    assert where(page, CONTENTS, "--accent"), "the block that got most"
    row = page.evaluate(ROW, CONTENTS)
    blocks = 6395 / 128  # of one colour each, with a mixed one at each border; more is stripes of overlapping bars
    assert 20 < sum(one != other for one, other in pairwise(row)) < 2 * blocks + 8
    for top in (TICK_FOOT, PLACES):  # the fact lies in the middle
        found = where(page, top, "--accent")
        assert any(abs(place - 0.5) < 0.03 for place in found), (top, found)
    shoot(page, "map", "figure.map")


def test_the_map_jumps_by_keys_and_clicks(page: Any, tmp_path: Path) -> None:
    read_story(page, tmp_path, "places", pages=200)
    page.focus("#map")
    page.keyboard.press("End")
    expect(page, "#text").to_contain_text("Page 199")
    box = page.locator("#map").bounding_box()
    page.mouse.click(box["x"] + 1, box["y"] + 10)
    expect(page, "#text").to_contain_text("Page 0:")
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + 10)
    expect(page, "#map").to_have_attribute("aria-valuenow", "50")
    page.click("#text", position={"x": 40, "y": 60})
    page.wait_for_selector("#fold .entry")


def test_arrows_walk_through_a_short_document(page: Any, tmp_path: Path) -> None:
    read_story(page, tmp_path, "walk")  # one percent of it is less than what is shown before a place
    page.focus("#map")
    for percent in range(1, 8):
        page.keyboard.press("ArrowRight")
        expect(page, "#map").to_have_attribute("aria-valuenow", str(percent))
    page.keyboard.press("PageDown")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("PageUp")
    expect(page, "#map").to_have_attribute("aria-valuenow", re.compile("^(9|10|11|16|17)$"))


def test_earlier_and_later_lead_through_the_text(page: Any, tmp_path: Path) -> None:
    read_story(page, tmp_path, "paged", pages=200)
    assert page.is_disabled("#earlier")
    page.click("#later")
    expect(page, "#text").to_contain_text("Page 80:")
    page.focus("#map")
    page.keyboard.press("End")
    expect(page, "#later").to_be_disabled()
    page.click("#earlier")
    expect(page, "#text").to_contain_text("Page 150:")


def test_the_fold_shows_what_was_kept(page: Any, tmp_path: Path) -> None:
    read_story(page, tmp_path, "folded")
    ask_for_the_fact(page)
    page.click("#fold-here")
    page.wait_for_selector("#fold .entry .kept.top")
    shares = page.eval_on_selector_all(
        "#fold .entry:first-of-type .kept", "(all) => all.map((one) => parseFloat(one.title))"
    )
    assert len(shares) == 8, "two groups of 4 overlap in an entry"
    assert abs(sum(shares) - 100) < 2
    words = page.inner_text("#fold")
    assert "secret" in words, "the place that was asked for"
    assert page.get_attribute("#fold .strip >> nth=0", "aria-label").startswith("Of 8 tokens, most of: ")
    options = page.locator("#fold-layer option").all_inner_texts()
    wide = next(option for option in options if "128 tokens" in option)
    page.select_option("#fold-layer", label=wide)
    assert len(page.query_selector_all("#fold .entry:first-of-type .kept")) == 128
    page.select_option("#fold-layer", label=options[0])
    shoot(page, "fold", "#fold")


def test_folds_by_keys_the_place_that_was_gone_to(page: Any, tmp_path: Path) -> None:
    read_story(page, tmp_path, "keyed", pages=200)
    page.focus("#map")
    for _ in range(3):
        page.keyboard.press("PageUp")
    expect(page, "#map").to_have_attribute("aria-valuenow", "30")
    page.focus("#fold-here")
    page.keyboard.press("Enter")
    page.wait_for_selector("#fold .entry")
    at = int(re.sub(r"\D", "", page.inner_text("label[for=fold-layer]")))
    chars = page.evaluate("document.querySelector('#map').ariaValueText")
    assert chars.startswith(f"character {at:,} of keyed.txt")
