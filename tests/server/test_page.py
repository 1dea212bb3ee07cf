"""The page: which files are served and how. What it does in a browser: tests/server/web."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from octavo.server.page import WEB, page_routes

SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)


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
