"""Documents in the page: chosen, dropped and pasted; progress; stopping; names; forgetting; the memory meter."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from tests.support.page import FACT, choose_file, expect, read_story, refused, shoot, story, until_read

DROP = """(text) => {
  const data = new DataTransfer();
  data.items.add(new File([text], "dropped file.txt", { type: "text/plain" }));
  for (const kind of ["dragenter", "dragover", "drop"]) {
    const event = new DragEvent(kind, { dataTransfer: data, bubbles: true, cancelable: true });
    document.querySelector("#log").dispatchEvent(event);
    if (!event.defaultPrevented) throw new Error(`${kind} would leave the page`);
    if (document.querySelector("#drop").classList.contains("over") === (kind === "drop")) throw new Error(kind);
  }
}"""


def test_a_file_dropped_anywhere_is_read(page: Any) -> None:
    page.evaluate(DROP, story())
    until_read(page, "dropped-file")
    expect(page, "#text").to_contain_text("Page 0:")
    expect(page, "#about").to_have_text("About dropped-file: each question is asked for itself.")


def test_reading_shows_progress_and_is_stopped(page: Any, tmp_path: Path) -> None:
    choose_file(page, tmp_path, "long", story(4_000))
    page.wait_for_selector(".reading .sizes:not([hidden])")
    line = page.inner_text(".reading .quiet")
    assert re.fullmatch(r"[\d,]+ of [\d,]+ tokens, [\d,]+ tokens/s, (\d+ (s|min)|[\d.]+ h|…) left", line), line
    folded, whole = sizes(page.inner_text(".sizes"))
    assert 0 < folded < whole
    bar = page.locator(".reading progress")
    assert 0 < bar.evaluate("(bar) => bar.value / bar.max") < 1
    widths = page.eval_on_selector_all(".sizes i", "(all) => all.map((one) => one.offsetWidth)")
    assert 0 < widths[0] < widths[1]
    shoot(page, "reading")
    page.click("text=Stop reading")
    page.wait_for_selector(".reading", state="detached")
    page.wait_for_selector(".choose:has-text('long')", state="detached")  # without a reload


def sizes(text: str) -> list[float]:
    """The two byte counts that are shown, folded first."""
    found = re.findall(r"(?:un)?folded ([\d.]+) (.?B)", text)
    return [float(count) * {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9}[unit] for count, unit in found]


def test_a_text_is_pasted_and_forgotten(page: Any) -> None:
    page.click("summary")
    page.fill("#paste-name", "note")
    page.fill("#paste", "A short note with <b>marks</b> & no markup.\n" * 30)
    page.click("#paste-form button")
    until_read(page, "note")
    expect(page, "#text").to_contain_text("<b>marks</b>")
    expect(page, "#paste").to_have_value("")
    assert page.query_selector("#text b") is None
    page.on("dialog", lambda dialog: dialog.accept())
    page.click("[aria-label='Forget note']")
    page.wait_for_selector(".choose:has-text('note')", state="detached")
    assert page.is_hidden("#look")


def test_the_same_name_twice_gives_two_documents(page: Any, tmp_path: Path) -> None:
    read_story(page, tmp_path, "twin")
    choose_file(page, tmp_path, "twin", "Another text.\n" * 20)
    until_read(page, "twin-2")
    expect(page, "#text").to_contain_text("Another text.")
    page.click(".choose:has-text('twin') >> nth=0")
    expect(page, "#text").to_contain_text("Page 0:")


def test_several_files_make_one_document(page: Any, tmp_path: Path) -> None:
    paths = [tmp_path / "first.txt", tmp_path / "second.txt"]
    for path, text in zip(paths, (story(), "The other file.\n" * 40), strict=True):
        path.write_text(text, encoding="utf-8")
    page.set_input_files("#file", paths)
    until_read(page, "first")
    assert page.locator("#part option").all_inner_texts() == ["first.txt", "second.txt"]
    page.select_option("#part", label="second.txt")
    expect(page, "#text").to_contain_text("The other file.")
    assert FACT not in page.inner_text("#text")


def test_what_cannot_be_read_is_said_and_a_pasted_text_is_kept(page: Any, wrong: list[str]) -> None:
    page.set_input_files("#file", {"name": "raw.bin", "mimeType": "text/plain", "buffer": b"a\x00b" * 99})
    expect(page, "#problem").to_contain_text("raw.bin: byte 1 is NUL")
    page.click("summary")
    page.fill("#paste", "a\x00b")
    page.click("#paste-form button")
    expect(page, "#problem").to_contain_text("pasted.txt: byte 1 is NUL")
    expect(page, ".reading").to_have_count(0)
    assert page.input_value("#paste") != ""
    refused(wrong, 2)


def test_the_meter_counts_pages_and_bytes(page: Any, tmp_path: Path) -> None:
    read_story(page, tmp_path, "metered")
    expect(page, "#memory-text").to_have_text(re.compile(r"[1-9][\d,]* of [\d,]+ pages, documents [\d.]+ [kMG]B"))
    assert page.eval_on_selector("#memory-bar", "(bar) => bar.value") > 0
