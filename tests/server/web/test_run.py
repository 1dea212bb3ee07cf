"""Programs that the model wrote, run in the page: their output, their limits, and that they reach nothing."""

from __future__ import annotations

import json
import socket
from typing import Any

import pytest

from tests.support.page import WAIT_MS, expect, ran, shoot, told


def test_a_program_runs(page: Any) -> None:
    out = ran(page, "const f = (n) => n < 2 ? n : f(n - 1) + f(n - 2);\nconsole.log('ten', f(10), {a: [1]});\nf(7)")
    assert out.split("\n")[:2] == ['ten 55 {"a":[1]}', "13"]
    assert page.query_selector("iframe") is None
    assert page.inner_text(".turn.told .said").endswith("\nThat is all."), "without a blank line"
    shoot(page, "program")


def test_a_program_that_throws_says_so(page: Any) -> None:
    assert "TypeError" in ran(page, "null.x")


def test_a_program_without_end_is_ended(page: Any) -> None:
    assert "stopped after 5 seconds" in ran(page, "for (;;) {}")
    assert page.query_selector("iframe") is None


def test_a_program_that_prints_without_end_is_ended(page: Any) -> None:
    out = ran(page, "for (;;) console.log('x'.repeat(1000))")
    assert "characters of output" in out
    assert len(out) < 22_000


def test_a_program_is_stopped_by_its_button(page: Any) -> None:
    told(page, "```javascript\nfor (let n = 0; ; n += 1) if (n % 1e8 === 0) console.log('going');\n```")
    page.click(".code button:has-text('Run')")
    expect(page, ".ran").to_contain_text("going")
    page.click(".code button:has-text('Stop')")
    expect(page, ".ran").to_contain_text("stopped")
    assert page.query_selector("iframe") is None


def test_other_languages_are_not_run(page: Any) -> None:
    told(page, "```python\nprint(1)\n```")
    expect(page, ".code pre").to_have_text("print(1)\n")
    assert page.query_selector(".code button") is None


PRISON = """
const tries = {
  fetch: () => fetch(ADDRESS + "/v1/models").then(() => "out"),
  socket: () => new Promise((done) => {
    const s = new WebSocket(ADDRESS.replace("http", "ws"));
    [s.onopen, s.onerror] = [() => done("out"), () => done("kept")];
  }),
  script: async () => { importScripts(ADDRESS + "/js/dom.js"); return "out"; },
  request: async () => {
    const r = new XMLHttpRequest();
    r.open("GET", ADDRESS + "/v1/models", false);
    r.send();
    return "out";
  },
  storage: () => new Promise((done, kept) => {
    const r = indexedDB.open("x");
    [r.onsuccess, r.onerror] = [() => done("out"), kept];
  }),
  page: async () => (typeof document === "undefined" && typeof parent === "undefined" ? "kept" : "out"),
};
(async () => {
  for (const [name, attempt] of Object.entries(tries)) {
    let said;
    try { said = await attempt(); } catch { said = "kept"; }
    console.log(name, said);
  }
})()
"""


def test_a_program_reaches_nothing(browser: Any, address: str) -> None:
    page = browser.new_page()  # refusals are logged as errors, which the other pages must not have
    page.set_default_timeout(WAIT_MS)
    page.goto(address)
    expect(page, "#model").not_to_be_empty()
    with socket.create_server(("127.0.0.1", 0)) as outside:
        elsewhere = json.dumps(f"http://127.0.0.1:{outside.getsockname()[1]}")
        lines = ran(page, PRISON.replace("ADDRESS", elsewhere)).strip().split("\n")
        assert lines == [f"{name} kept" for name in ("fetch", "socket", "script", "request", "storage", "page")]
        outside.setblocking(False)
        with pytest.raises(BlockingIOError):  # nobody came
            outside.accept()
    page.close()
