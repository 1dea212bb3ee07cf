"""Whether everyone can use the page: axe-core's rules in its states, the keyboard alone, narrow screens, themes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support import chromium
from tests.support.page import (
    FACT,
    QUESTION,
    ask_for_the_fact,
    choose_file,
    expect,
    ran,
    read_story,
    refused,
    shoot,
    story,
)

RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
FOUND = """async (tags) => {
  const { violations } = await axe.run(document, { runOnly: tags, resultTypes: ["violations"] });
  const said = (rule, { html, failureSummary }) => `${rule}: ${html.slice(0, 99)}: ${failureSummary}`;
  return violations.flatMap((one) => one.nodes.map((node) => said(one.id, node)));
}"""
# The border of a control against what it lies on: axe-core does not look at these.
CONTRAST = """() => {
  const paint = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const light = (colour) => {
    paint.fillStyle = colour;
    paint.fillRect(0, 0, 1, 1);
    const [r, g, b] = [...paint.getImageData(0, 0, 1, 1).data].map((c) => c / 255)
      .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const style = getComputedStyle(document.documentElement);
  const of = (one, other) => {
    const [low, high] = [one, other].map((name) => light(style.getPropertyValue(name))).sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  };
  return [of("--edge", "--paper"), of("--edge", "--card"), of("--accent", "--card"), of("--accent", "--paper")];
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(page: Any, wrong: list[str], tmp_path: Path, scheme: str) -> None:
    source = chromium.axe()
    if source is None:
        pytest.skip("axe-core was not fetched; `make browser` does that")
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # a colour half way to the next is no finding
    page.evaluate(source)

    def check(state: str) -> None:
        assert page.evaluate(FOUND, RULES) == [], state

    check("empty")
    page.click("summary")
    check("pasting")
    choose_file(page, tmp_path, f"slow-{scheme}", story(4_000))
    page.wait_for_selector(".sizes:not([hidden])")
    check("reading")
    page.click("text=Stop reading")
    read_story(page, tmp_path, f"heard-{scheme}")
    ask_for_the_fact(page)
    page.click("#fold-here")
    page.wait_for_selector("#fold .entry")
    check("answered")
    assert ran(page, "console.log('out')") == "out\n"
    page.set_input_files("#file", {"name": "raw.bin", "mimeType": "text/plain", "buffer": b"a\x00"})
    expect(page, "#problem").to_contain_text("NUL")
    refused(wrong, 1)
    check("ran and failed")
    page.set_viewport_size({"width": 360, "height": 740})
    check("narrow")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_controls_stand_out_from_the_page(page: Any, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)
    assert min(page.evaluate(CONTRAST)) >= 3


OUTLINE = """() => {
  const one = document.activeElement;
  return getComputedStyle(one.matches("#file") ? one.parentElement : one).outlineStyle;
}"""


def tab_to(page: Any, selector: str) -> None:
    """Press Tab until the focus is there, and visible."""
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("(selector) => document.activeElement.matches(selector)", selector):
            drawn = page.evaluate(OUTLINE)
            assert drawn != "none", f"{selector} does not show its focus"
            return
    raise AssertionError(f"{selector} is not reached by Tab")


def test_everything_is_done_by_the_keyboard(page: Any) -> None:
    tab_to(page, ".skip")
    tab_to(page, "#theme")
    tab_to(page, "#file")
    tab_to(page, "summary")
    page.keyboard.press("Enter")
    tab_to(page, "#paste-name")
    page.keyboard.insert_text("keys")
    tab_to(page, "#paste")
    page.keyboard.insert_text(story())
    tab_to(page, "#paste-form button")
    page.keyboard.press("Enter")
    page.wait_for_selector("#look:not([hidden])")
    tab_to(page, "#question")
    page.keyboard.insert_text(QUESTION)
    page.keyboard.press("Enter")
    page.wait_for_selector(".turn.told .sources q")
    page.keyboard.press("Shift+Tab")  # back from the question to the last quoted place
    assert page.evaluate("document.activeElement.matches('.sources button')")
    page.keyboard.press("Enter")
    expect(page, "#text mark").to_have_count(1)
    expect(page, "#text").to_be_focused()
    page.keyboard.press("Shift+Tab")
    expect(page, "#fold-here").to_be_focused()
    page.keyboard.press("Enter")
    page.wait_for_selector("#fold .entry")
    tab_to(page, "#fold-layer")


def test_the_skip_link_leads_to_the_question(page: Any) -> None:
    tab_to(page, ".skip")
    page.keyboard.press("Enter")
    expect(page, "#question").to_be_focused()


@pytest.mark.parametrize("width", [360, 768])
def test_narrow_pages_do_not_scroll_sideways(page: Any, tmp_path: Path, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 740})
    read_story(page, tmp_path, f"narrow{width}")
    ask_for_the_fact(page)
    assert FACT in page.inner_text("#text mark")
    page.click("#fold-here")
    page.wait_for_selector("#fold .entry")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.evaluate("scrollTo(0, 0)")
    shoot(page, f"narrow-{width}")


def test_the_theme_is_kept(page: Any) -> None:
    page.click("#theme")
    page.click("#theme")
    assert page.inner_text("#theme") == "Theme: dark"
    page.reload()
    expect(page, "html").to_have_attribute("data-theme", "dark")


def test_every_control_has_a_name(page: Any) -> None:
    unnamed = page.evaluate(
        "[...document.querySelectorAll('button, input, select, textarea')].filter((one) => !(one.labels?.length"
        " || one.ariaLabel || one.textContent.trim())).map((one) => one.id)"
    )
    assert unnamed == []
