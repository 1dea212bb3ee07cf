"""The page: which files are served and how, and the page itself in a real browser over a real server and model.

The browser is playwright's own, or a `chromium` on the path; without one these tests are skipped and say so. With
OCTAVO_PAGE_FIGURES naming a folder they leave screenshots there.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.testclient import TestClient

from octavo.server.page import WEB, page_routes

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)
FACT = "The secret word of the lighthouse keeper is heron."


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with TestClient(Starlette(routes=page_routes())) as client:
        yield client


def test_every_file_is_served_and_small(client: TestClient) -> None:
    files = [path for path in WEB.rglob("*") if path.is_file()]
    assert len(files) > 10
    for path in files:
        found = client.get(f"/{path.relative_to(WEB).as_posix()}")
        assert (found.status_code, found.content) == (200, path.read_bytes())
        assert len(path.read_text("utf-8").splitlines()) < 250
        if path.suffix in (".js", ".css"):
            assert path.read_text("utf-8").startswith(("//", "/*")), f"{path.name} does not say what it covers"
    assert client.get("/").content == (WEB / "index.html").read_bytes()


def test_nothing_else_is_served(client: TestClient, tmp_path: Path) -> None:
    for path in ("/../page.py", "/js", "/js/../../page.py", "/%2e%2e/page.py", "/js/none.js"):
        assert client.get(path).status_code == 404
    (tmp_path / "kept.html").write_text("kept")
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "link.html").symlink_to(tmp_path / "secret.txt")
    assert [route.path for route in page_routes(tmp_path)] == ["/kept.html"]
    assert page_routes(tmp_path / "missing") == []


def test_policies_allow_no_inline_script_and_no_other_host(client: TestClient) -> None:
    policy = client.get("/").headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-src 'self'" in policy
    sandbox = client.get("/sandbox.html").headers["content-security-policy"]
    assert sandbox.startswith("sandbox allow-scripts;")
    assert "connect-src" not in sandbox, "left to default-src, which is none"
    assert "frame-ancestors 'self'" in sandbox
    for path in WEB.rglob("*"):
        if path.is_file():
            assert not re.search(
                r"https?://|innerHTML|outerHTML|insertAdjacentHTML|document\.write", path.read_text("utf-8")
            )
    page = (WEB / "index.html").read_text("utf-8")
    assert not re.search(r"<script(?![^>]*\ssrc=)|\sstyle=|\son[a-z]+=", page)


def test_the_sandbox_allows_its_own_script_alone() -> None:
    page = (WEB / "sandbox.html").read_text("utf-8")
    (script,) = SCRIPT.findall(page)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"'sha256-{digest}'" in page


# -- in a browser ------------------------------------------------------------------------------------------------------


def _chromium() -> Any:
    """A started playwright and a browser, or a skip."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    play = sync_api.sync_playwright().start()
    try:
        return play, play.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
    except sync_api.Error as error:
        play.stop()
        pytest.skip(f"no Chromium to run the page in: {str(error).splitlines()[0]}")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A server over octavo-xs on a free port."""
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


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    play, browser = _chromium()
    yield browser
    browser.close()
    play.stop()


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    """A fresh page; what it logs as an error or asks of another host fails the test."""
    context = browser.new_context(viewport={"width": 1120, "height": 680})
    page = context.new_page()
    page.set_default_timeout(60_000)
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
    page.on(
        "request", lambda sent: None if sent.url.startswith((address, "data:", "blob:")) else wrong.append(sent.url)
    )
    page.goto(address)
    expect(page, "#model").not_to_be_empty()
    yield page
    context.close()
    assert wrong == []


def expect(page: Any, selector: str) -> Any:
    """Assertions that wait; they compile nothing in the page, whose policy forbids that."""
    from playwright.sync_api import expect

    expect.set_options(timeout=60_000)
    return expect(page.locator(selector))


def is_idle(address: str) -> bool:
    """Whether no job runs, within a minute."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        if re.search(r"^octavo:num_requests_running\S* 0\.0$", httpx.get(f"{address}/metrics").text, re.MULTILINE):
            return True
    return False


def story() -> str:
    lines = [
        f"Page {n}: the keeper wrote the date, {n} gulls sat on the rail, and the sea was calm." for n in range(60)
    ]
    return "\n".join([*lines[:30], FACT, *lines[30:]]) + "\n"


def shoot(page: Any, name: str) -> None:
    folder = os.environ.get("OCTAVO_PAGE_FIGURES")
    if folder:
        path = Path(folder) / f"{name}.png"
        page.screenshot(path=path)
        assert path.stat().st_size < 150_000


def read_story(page: Any, tmp_path: Path, name: str) -> None:
    path = tmp_path / f"{name}.txt"
    path.write_text(story(), encoding="utf-8")
    page.set_input_files("#file", path)
    page.wait_for_selector(f".choose[aria-pressed=true]:has-text('{name}')")
    page.wait_for_selector("#look:not([hidden])")


def ask(page: Any, question: str) -> None:
    page.fill("#question", question)
    page.press("#question", "Enter")


def test_reads_asks_and_shows_the_place(page: Any, tmp_path: Path) -> None:
    read_story(page, tmp_path, "story")
    ask(page, "What is the secret word of the lighthouse keeper?")
    page.wait_for_selector(".turn.told .sources q")
    assert "heron" in page.inner_text(".turn.told .said").lower()
    assert FACT in page.inner_text(".turn.told .sources q >> nth=0")
    page.wait_for_selector("#text mark")
    assert FACT in page.inner_text("#text mark")
    shoot(page, "answer")
    page.emulate_media(color_scheme="dark")
    shoot(page, "dark")
    page.click("#fold-here")
    page.wait_for_selector("#fold .entry .kept.top")
    assert len(page.query_selector_all("#fold .entry")) >= 1
    page.evaluate("document.querySelector('#fold').scrollIntoView()")
    shoot(page, "fold")


def test_the_map_jumps_by_keys_and_clicks(page: Any, tmp_path: Path) -> None:
    read_story(page, tmp_path, "places")
    page.focus("#map")
    page.keyboard.press("End")
    expect(page, "#text").to_contain_text("Page 59")
    box = page.locator("#map").bounding_box()
    page.mouse.click(box["x"] + 1, box["y"] + 10)
    expect(page, "#text").to_contain_text("Page 0:")
    page.click("#text", position={"x": 40, "y": 30})
    page.wait_for_selector("#fold .entry")


def test_a_text_is_pasted_and_forgotten(page: Any) -> None:
    page.click("summary")
    page.fill("#paste-name", "note")
    page.fill("#paste", "A short note with <b>marks</b> & no markup.\n" * 30)
    page.click("#paste-form button")
    page.wait_for_selector(".choose[aria-pressed=true]:has-text('note')")
    expect(page, "#text").to_contain_text("<b>marks</b>")
    assert page.query_selector("#text b") is None
    page.on("dialog", lambda dialog: dialog.accept())
    page.click("[aria-label='Forget note']")
    page.wait_for_selector(".choose:has-text('note')", state="detached")
    assert page.is_hidden("#look")


@pytest.mark.parametrize("by", ["key", "button"])
def test_a_stream_is_stopped(page: Any, address: str, by: str) -> None:
    def endless(route: Any) -> None:
        """An answer that the model cannot end by itself."""
        route.continue_(post_data=json.dumps(route.request.post_data_json | {"guided_regex": "(la ){600}"}))

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


def test_a_program_runs(page: Any) -> None:
    out = ran(page, "const f = (n) => n < 2 ? n : f(n - 1) + f(n - 2);\nconsole.log('ten', f(10), {a: [1]});\nf(7)")
    assert out.split("\n")[:2] == ['ten 55 {"a":[1]}', "13"]
    assert page.query_selector("iframe") is None
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
    page.set_default_timeout(60_000)
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


def test_markup_of_the_model_stays_text(page: Any) -> None:
    told(page, "<img src=x onerror=alert(1)> **bold** <script>alert(2)</script>")
    expect(page, ".turn.told .said").to_contain_text("<script>")
    assert page.query_selector(".turn img, .turn script") is None


@pytest.mark.parametrize("width", [360, 768])
def test_narrow_pages_do_not_scroll_sideways(page: Any, tmp_path: Path, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 740})
    read_story(page, tmp_path, f"narrow{width}")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    shoot(page, f"narrow-{width}")


def test_the_theme_is_kept(page: Any) -> None:
    page.click("#theme")
    page.click("#theme")
    assert page.inner_text("#theme") == "Theme: dark"
    page.reload()
    expect(page, "html").to_have_attribute("data-theme", "dark")


def test_every_control_has_a_name_and_is_reached_by_keys(page: Any) -> None:
    unnamed = page.evaluate(
        "[...document.querySelectorAll('button, input, select, textarea')].filter((one) => !(one.labels?.length"
        " || one.ariaLabel || one.textContent.trim())).map((one) => one.id)"
    )
    assert unnamed == []
    reached: list[str] = []
    wanted = ["theme", "file", "question", "send"]
    while wanted[-1] not in reached and len(reached) < 80:  # other tests' documents stand in between
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id"))
    assert [name for name in reached if name in wanted] == wanted
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline != "none"
